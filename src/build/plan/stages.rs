//! The graph of stages: what the target needs, in which order, and every step of it.

use super::effect::Scope;
use super::environment::Environment;
use super::state::{Action, StageState};
use crate::build::dockerfile::{
    Command, Diagnostic, Dockerfile, Instruction, Lexer, Stage, Variables, nearest, parse_trigger,
};
use crate::oci::{History, ImageConfig, Platform, Reference};
use std::collections::{BTreeMap, BTreeSet};

/// Where base images come from.
pub trait Images {
    /// The configuration of the image `reference` for the native platform; a message when there is none.
    fn config(&self, reference: &str) -> Result<ImageConfig, String>;
}

/// What stands in the place of a name: `--build-context`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedContext {
    /// An image.
    Image(String),
    /// Files, which whoever runs the build has by that name.
    Files,
}

/// A name as `--build-context` and what refers to it have in common: an image with the tag it implies, anything else in lower case.
pub fn context_name(text: &str) -> String {
    match text.parse::<Reference>() {
        Ok(reference) => {
            let name = reference.or_latest().familiar();
            name.strip_suffix(":latest").map_or_else(|| name.clone(), str::to_owned)
        }
        Err(_) => text.to_lowercase(),
    }
}

/// What the caller of a build asks for.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `--build-arg`.
    pub arguments: BTreeMap<String, String>,
    /// `--label`.
    pub labels: Vec<(String, String)>,
    /// `--target`: a stage's name or number; the last stage when none.
    pub target: Option<String>,
    /// The platform that can be built for: the native one.
    pub platform: Platform,
    /// Whether `RUN --security=insecure` is allowed.
    pub allow_insecure: bool,
    /// `--build-context`, by [`context_name`].
    pub contexts: BTreeMap<String, NamedContext>,
}

/// Where files come from: the start of a stage, `COPY --from`, `--mount from`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nothing.
    Scratch,
    /// The result of the stage of this number.
    Stage(usize),
    /// An image.
    Image(String),
    /// The files of a named context.
    Files(String),
}

/// A step of a stage.
#[derive(Debug, Clone)]
pub struct Step {
    /// The instruction, for messages.
    pub instruction: Instruction,
    /// The text shown while it runs: `[build 2/5] RUN make`.
    pub title: String,
    /// What to do.
    pub action: Action,
    /// Where the files of `COPY --from` and of each `--mount from` come from, in order.
    pub origins: Vec<Origin>,
    /// The entry of the history that belongs to it; none for ONBUILD.
    pub history: Option<usize>,
}

/// A stage that is needed.
#[derive(Debug, Clone)]
pub struct PlannedStage {
    /// Its number in the Dockerfile.
    pub index: usize,
    /// Its name, when it has one.
    pub name: Option<String>,
    /// What it starts from.
    pub base: Origin,
    /// Its steps, triggers of the base first.
    pub steps: Vec<Step>,
    /// The FROM instruction, for messages.
    pub from: Instruction,
    /// The configuration it ends with; history entries of its own are the last ones.
    pub state: StageState,
    /// How many entries of the history the base brought.
    pub inherited_history: usize,
    /// The stages whose results it needs.
    pub needs: BTreeSet<usize>,
}

/// Everything a build has to do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The stages the target needs, by number; each needs only lower ones.
    pub stages: BTreeMap<usize, PlannedStage>,
    /// The stage whose result is wanted.
    pub target: usize,
    /// Build arguments that no ARG asked for.
    pub unused_arguments: Vec<String>,
}

/// Plans a build. Only what the target needs is looked at beyond its syntax.
pub fn plan(file: &Dockerfile, settings: &Settings, images: &dyn Images) -> Result<Plan, Diagnostic> {
    let globals = global_scope(file, settings)?;
    let mut planner = Planner { file, settings, images, globals, bases: Vec::new(), planned: BTreeMap::new() };
    for (index, stage) in file.stages.iter().enumerate() {
        let base = planner.base(index, stage)?;
        planner.bases.push(base);
    }
    planner.check_order()?;
    let target = planner.target()?;
    planner.require(target)?;
    if let Some(stage) = planner.planned.get_mut(&target).filter(|_| !settings.labels.is_empty()) {
        stage.state.config.config.labels.get_or_insert_default().extend(settings.labels.iter().cloned());
    }
    let unused_arguments = planner.unused_arguments();
    Ok(Plan { stages: planner.planned, target, unused_arguments })
}

/// The variables of FROM lines: the predefined ones and those of ARG before the first FROM.
fn global_scope(file: &Dockerfile, settings: &Settings) -> Result<Environment, Diagnostic> {
    let target = settings.target.as_deref().or_else(|| file.stages.last().and_then(|stage| stage.name.as_deref()));
    let mut globals = Environment::predefined(&settings.platform, target, &settings.arguments);
    let lexer = Lexer::new(file.escape);
    for instruction in &file.global_arguments {
        let Command::Arg(arguments) = &instruction.command else { continue };
        for (name, default) in arguments {
            let value = match (settings.arguments.get(name), default) {
                (Some(given), _) => Some(given.clone()),
                (None, Some(default)) => {
                    let value = lexer.word(default, &globals);
                    Some(value.map_err(|error| instruction.diagnostic_at(default, error.to_string()))?)
                }
                (None, None) => None,
            };
            if let Some(value) = value {
                globals.set(name, &value);
            }
        }
    }
    Ok(globals)
}

struct Planner<'a> {
    file: &'a Dockerfile,
    settings: &'a Settings,
    images: &'a dyn Images,
    globals: Environment,
    bases: Vec<Origin>,
    planned: BTreeMap<usize, PlannedStage>,
}

impl Planner<'_> {
    /// What the stage `index` starts from. Only stages before it count: a later one of that name is an image's name.
    fn base(&self, index: usize, stage: &Stage) -> Result<Origin, Diagnostic> {
        let lexer = Lexer::new(self.file.escape);
        let expand = |text: &str| {
            lexer.word(text, &self.globals).map_err(|error| stage.from.diagnostic_at(text, error.to_string()))
        };
        let base = expand(&stage.base)?;
        if base.is_empty() {
            return Err(stage
                .from
                .diagnostic_at(&stage.base, format!("base name ({}) should not be blank", stage.base)));
        }
        if let Some(text) = &stage.platform {
            let platform = expand(text)?;
            if platform.is_empty() {
                return Err(stage.from.diagnostic_at(text, format!("empty platform value from expression {text}")));
            }
            self.check_platform(&platform).map_err(|message| stage.from.diagnostic_at(text, message))?;
        }
        if let Some(named) = self.named_context(&base) {
            return Ok(named);
        }
        let earlier = self.file.stages.iter().take(index);
        let lower = base.to_lowercase();
        Ok(match earlier.rev_position(|earlier| earlier.name.as_deref() == Some(lower.as_str())) {
            Some(earlier) => Origin::Stage(earlier),
            None if base == "scratch" => Origin::Scratch,
            None => Origin::Image(base),
        })
    }

    fn check_platform(&self, text: &str) -> Result<(), String> {
        let platform: Platform = text.parse().map_err(|error| format!("failed to parse platform {text}: {error}"))?;
        match self.settings.platform.distance_to(&platform) {
            Some(_) => Ok(()),
            None => {
                Err(format!("platform {text} cannot be built here: only the native {} can", self.settings.platform))
            }
        }
    }

    /// The stage `name` names: by name among all stages (the last of that name), or by number.
    fn stage_named(&self, name: &str) -> Result<Option<usize>, String> {
        if let Ok(index) = name.parse::<usize>() {
            return if index < self.file.stages.len() {
                Ok(Some(index))
            } else {
                Err(format!("invalid stage index {index}"))
            };
        }
        let lower = name.to_lowercase();
        Ok(self.file.stages.iter().rev_position(|stage| stage.name.as_deref() == Some(lower.as_str())))
    }

    /// What `--build-context` puts in the place of `name`, be that a stage or an image.
    fn named_context(&self, name: &str) -> Option<Origin> {
        let name = context_name(name);
        match self.settings.contexts.get(&name)? {
            NamedContext::Image(image) if image == "scratch" => Some(Origin::Scratch),
            NamedContext::Image(image) => Some(Origin::Image(image.clone())),
            NamedContext::Files => Some(Origin::Files(name)),
        }
    }

    fn origin(&self, name: &str) -> Result<Origin, String> {
        if let Some(named) = self.named_context(name) {
            return Ok(named);
        }
        Ok(match self.stage_named(name)? {
            Some(index) => Origin::Stage(index),
            None if name == "scratch" => Origin::Scratch,
            None => Origin::Image(name.to_owned()),
        })
    }

    /// The origins an instruction of stage `index` names, all from earlier stages.
    fn origins(&self, index: usize, instruction: &Instruction) -> Result<Vec<Origin>, Diagnostic> {
        let names: Vec<&String> = match &instruction.command {
            Command::Copy(transfer) => transfer.from.iter().collect(),
            Command::Run(run) => run.mounts.iter().filter_map(|mount| mount.from.as_ref()).collect(),
            _ => Vec::new(),
        };
        let resolve = |name: &String| {
            let origin = self.origin(name).map_err(|message| instruction.diagnostic_at(name, message))?;
            match origin {
                Origin::Stage(other) if other == index => {
                    let message = format!("circular dependency detected on stage: {}", self.stage_title(index));
                    Err(instruction.diagnostic_at(name, message))
                }
                Origin::Stage(other) if other > index => {
                    let own = self.stage_title(index);
                    let message =
                        format!("cannot copy from stage {name:?}, it needs to be defined before current stage {own:?}");
                    Err(instruction.diagnostic_at(name, message))
                }
                origin => Ok(origin),
            }
        };
        names.into_iter().map(resolve).collect()
    }

    fn stage_title(&self, index: usize) -> String {
        self.file.stages.get(index).and_then(|stage| stage.name.clone()).unwrap_or_else(|| format!("stage-{index}"))
    }

    /// Cycles are told as such, before a reference to a later stage is told as one.
    fn check_order(&self) -> Result<(), Diagnostic> {
        let mut needs: Vec<BTreeMap<usize, &Instruction>> = Vec::new();
        for (stage, base) in self.file.stages.iter().zip(&self.bases) {
            let mut own = BTreeMap::new();
            if let Origin::Stage(base) = base {
                own.insert(*base, &stage.from);
            }
            for instruction in &stage.instructions {
                let names: Vec<&String> = match &instruction.command {
                    Command::Copy(transfer) => transfer.from.iter().collect(),
                    Command::Run(run) => run.mounts.iter().filter_map(|mount| mount.from.as_ref()).collect(),
                    _ => Vec::new(),
                };
                for name in names.into_iter().filter(|name| self.named_context(name).is_none()) {
                    if let Ok(Some(other)) = self.stage_named(name) {
                        own.entry(other).or_insert(instruction);
                    }
                }
            }
            needs.push(own);
        }
        for start in 0..needs.len() {
            if let Some(instruction) = cycle_through(start, &needs) {
                let message = format!("circular dependency detected on stage: {}", self.stage_title(start));
                return Err(instruction.diagnostic(message));
            }
        }
        Ok(())
    }

    fn target(&self) -> Result<usize, Diagnostic> {
        let Some(target) = &self.settings.target else { return Ok(self.file.stages.len().saturating_sub(1)) };
        if let Ok(Some(index)) = self.stage_named(target) {
            return Ok(index);
        }
        let names = self.file.stages.iter().filter_map(|stage| stage.name.as_deref());
        let near = nearest(target, names);
        let start = crate::build::dockerfile::Span::default();
        Err(self.file.source.diagnostic(start, format!("target stage {target:?} could not be found")).suggest(near))
    }

    /// Plans the stage `index` and what it needs.
    fn require(&mut self, index: usize) -> Result<(), Diagnostic> {
        if self.planned.contains_key(&index) {
            return Ok(());
        }
        let (Some(stage), Some(base)) = (self.file.stages.get(index), self.bases.get(index).cloned()) else {
            return Ok(());
        };
        let (mut state, triggers) = self.start(&base, stage)?;
        let inherited_history = state.config.history.len();
        let mut needs: BTreeSet<usize> = BTreeSet::new();
        if let Origin::Stage(base) = base {
            needs.insert(base);
        }
        let triggers = triggers.iter().map(|text| parse_trigger(text)).collect::<Result<Vec<_>, _>>()?;
        let scope = Scope { escape: self.file.escape, globals: &self.globals, given: &self.settings.arguments };
        let mut steps = Vec::new();
        for instruction in triggers.iter().chain(&stage.instructions) {
            // Triggers are kept as text: their escape is the default one.
            let escape = if instruction.triggered { '\\' } else { self.file.escape };
            let scope = Scope { escape, ..scope };
            let origins = self.origins(index, instruction)?;
            let before = state.config.history.len();
            let action = state
                .apply(&instruction.command, &scope)
                .map_err(|fault| instruction.diagnostic_at(&fault.word, fault.message).suggest(fault.suggestion))?;
            self.check_action(&action, instruction)?;
            needs.extend(origins.iter().filter_map(|origin| match origin {
                Origin::Stage(other) => Some(*other),
                _ => None,
            }));
            let history = (state.config.history.len() > before).then_some(before);
            steps.push(Step { instruction: instruction.clone(), title: String::new(), action, origins, history });
        }
        self.check_images(&steps)?;
        for need in &needs {
            self.require(*need)?;
        }
        number(&mut steps, stage.name.as_deref(), self.file.stages.len(), index, &base);
        let planned = PlannedStage {
            index,
            name: stage.name.clone(),
            base,
            steps,
            from: stage.from.clone(),
            state,
            inherited_history,
            needs,
        };
        self.planned.insert(index, planned);
        Ok(())
    }

    fn start(&mut self, base: &Origin, stage: &Stage) -> Result<(StageState, Vec<String>), Diagnostic> {
        Ok(match base {
            Origin::Scratch => {
                let mut config = ImageConfig::new(&self.settings.platform);
                config.config.working_dir = Some("/".to_owned());
                StageState::of_image(config)
            }
            Origin::Files(name) => {
                let mut config = ImageConfig::new(&self.settings.platform);
                config.config.working_dir = Some("/".to_owned());
                config.history = vec![History { created_by: Some(format!("context {name}")), ..History::default() }];
                StageState::of_image(config)
            }
            Origin::Image(reference) => {
                let config = self.images.config(reference);
                StageState::of_image(config.map_err(|message| stage.from.diagnostic_at(reference, message))?)
            }
            Origin::Stage(index) => {
                self.require(*index)?;
                match self.planned.get(index) {
                    Some(planned) => StageState::of_stage(&planned.state),
                    None => return Err(stage.from.diagnostic("the base stage is missing")),
                }
            }
        })
    }

    fn check_action(&self, action: &Action, instruction: &Instruction) -> Result<(), Diagnostic> {
        match action {
            Action::Run(run) if run.insecure && !self.settings.allow_insecure => {
                Err(instruction.diagnostic_at("--security=insecure", "security.insecure is not allowed"))
            }
            _ => Ok(()),
        }
    }

    /// Images that only files are copied from must exist as well, before anything runs.
    fn check_images(&self, steps: &[Step]) -> Result<(), Diagnostic> {
        for step in steps {
            for origin in &step.origins {
                if let Origin::Image(reference) = origin {
                    self.images
                        .config(reference)
                        .map_err(|message| step.instruction.diagnostic_at(reference, message))?;
                }
            }
        }
        Ok(())
    }

    /// The given arguments that no ARG declares anywhere and that are not known by themselves.
    fn unused_arguments(&self) -> Vec<String> {
        let instructions = self.file.stages.iter().flat_map(|stage| &stage.instructions);
        let declared: BTreeSet<&str> = self
            .file
            .global_arguments
            .iter()
            .chain(instructions)
            .filter_map(|instruction| match &instruction.command {
                Command::Arg(arguments) => Some(arguments.iter().map(|(name, _)| name.as_str())),
                _ => None,
            })
            .flatten()
            .collect();
        let known = |name: &str| {
            declared.contains(name)
                || super::PROXY_ARGUMENTS.contains(&name.to_lowercase().as_str())
                || self.globals.value(name).is_some()
                || name == "SOURCE_DATE_EPOCH"
                || name.starts_with("BUILDKIT_")
        };
        self.settings.arguments.keys().filter(|name| !known(name)).cloned().collect()
    }
}

/// The instruction by which stage `start` comes to need itself.
fn cycle_through<'i>(start: usize, needs: &[BTreeMap<usize, &'i Instruction>]) -> Option<&'i Instruction> {
    let mut seen = BTreeSet::new();
    let mut open: Vec<(usize, &'i Instruction)> =
        needs.get(start)?.iter().map(|(other, instruction)| (*other, *instruction)).collect();
    while let Some((stage, first)) = open.pop() {
        if stage == start {
            return Some(first);
        }
        if seen.insert(stage) {
            open.extend(needs.get(stage)?.keys().map(|other| (*other, first)));
        }
    }
    None
}

/// Gives the steps their titles: `[name 2/5] RUN make`. What only changes the configuration is not counted.
fn number(steps: &mut [Step], name: Option<&str>, stages: usize, index: usize, base: &Origin) {
    let counted = |step: &&mut Step| step.action != Action::Metadata;
    let first = usize::from(matches!(base, Origin::Image(_) | Origin::Files(_)));
    let total = first + steps.iter().filter(|step| step.action != Action::Metadata).count();
    let prefix = match name {
        Some(name) => format!("{name} "),
        None if stages > 1 => format!("stage-{index} "),
        None => String::new(),
    };
    let width = total.to_string().len();
    for (position, step) in steps.iter_mut().filter(counted).enumerate() {
        let onbuild = if step.instruction.triggered { "ONBUILD " } else { "" };
        let text = step.instruction.original.trim();
        let (word, rest) = text.split_at(text.find(char::is_whitespace).unwrap_or(text.len()));
        let number = position + 1 + first;
        step.title = format!("[{prefix}{number:>width$}/{total}] {onbuild}{}{rest}", word.to_uppercase());
    }
}

/// The position of the last element that fulfils a condition.
trait LastPosition: Iterator + Sized {
    fn rev_position(self, condition: impl Fn(Self::Item) -> bool) -> Option<usize> {
        self.enumerate().filter_map(|(index, item)| condition(item).then_some(index)).last()
    }
}

impl<I: Iterator> LastPosition for I {}
