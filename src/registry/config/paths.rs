//! Where configuration lies, by the environment.

use std::path::{Path, PathBuf};

/// The variables and directories that decide where files are looked for.
#[derive(Debug, Clone, Default)]
pub struct Paths {
    /// `--authfile` or `REGISTRY_AUTH_FILE`.
    pub auth_file: Option<PathBuf>,
    /// `DOCKER_CONFIG`: the directory of docker's `config.json`.
    pub docker_config: Option<PathBuf>,
    /// `CONTAINERS_REGISTRIES_CONF` or `REGISTRIES_CONFIG_PATH`.
    pub registries_conf: Option<PathBuf>,
    /// `--cert-dir`: one directory of certificates for every host.
    pub cert_dir: Option<PathBuf>,
    /// The user's home.
    pub home: Option<PathBuf>,
    /// `XDG_CONFIG_HOME`.
    pub config_home: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`.
    pub runtime: Option<PathBuf>,
    /// Whether the effective user is root.
    pub root: bool,
}

impl Paths {
    /// The paths of this process.
    pub fn from_environment() -> Self {
        let path = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        Self {
            auth_file: path("REGISTRY_AUTH_FILE"),
            docker_config: path("DOCKER_CONFIG"),
            registries_conf: path("CONTAINERS_REGISTRIES_CONF").or_else(|| path("REGISTRIES_CONFIG_PATH")),
            cert_dir: None,
            home: path("HOME"),
            config_home: path("XDG_CONFIG_HOME"),
            runtime: path("XDG_RUNTIME_DIR"),
            root: rustix::process::geteuid().is_root(),
        }
    }

    /// `$XDG_CONFIG_HOME/containers`.
    pub fn containers_config(&self) -> Option<PathBuf> {
        let base = self.config_home.clone().or_else(|| self.home.as_ref().map(|home| home.join(".config")))?;
        Some(base.join("containers"))
    }

    /// Docker's `config.json`.
    pub fn docker_config_file(&self) -> Option<PathBuf> {
        let dir = self.docker_config.clone().or_else(|| self.home.as_ref().map(|home| home.join(".docker")))?;
        Some(dir.join("config.json"))
    }

    /// Credential files in the order they are asked.
    pub fn auth_files(&self) -> Vec<PathBuf> {
        if let Some(file) = &self.auth_file {
            return vec![file.clone()];
        }
        let mut files = Vec::new();
        if self.docker_config.is_some() {
            files.extend(self.docker_config_file());
        }
        if let Some(runtime) = &self.runtime {
            files.push(runtime.join("containers/auth.json"));
        }
        if self.root {
            files.push("/run/containers/0/auth.json".into());
        }
        files.extend(self.containers_config().map(|dir| dir.join("auth.json")));
        files.extend(self.docker_config_file());
        let mut seen = std::collections::HashSet::new();
        files.retain(|file| seen.insert(file.clone()));
        files
    }

    /// The file a login is written to: the one named by the user, else docker's, which podman and skopeo read as well
    /// (podman's own lies in a runtime directory and is gone after a reboot).
    pub fn login_file(&self) -> Option<PathBuf> {
        self.auth_file.clone().or_else(|| self.docker_config_file())
    }

    /// Directories that may hold a host's certificates; the first that exists counts.
    pub fn cert_dirs(&self, authority: &str) -> Vec<PathBuf> {
        if let Some(dir) = &self.cert_dir {
            return vec![dir.clone()];
        }
        let user = self.containers_config().map(|dir| dir.join("certs.d"));
        let docker = self.home.as_ref().map(|home| home.join(".config/docker/certs.d"));
        let system = ["/etc/containers/certs.d", "/etc/docker/certs.d"].map(|dir| Some(Path::new(dir).to_path_buf()));
        [user, docker].into_iter().chain(system).flatten().map(|dir| dir.join(authority)).collect()
    }

    /// `registries.conf` and the drop-ins that are laid over it, in order.
    pub fn registries_files(&self) -> Vec<PathBuf> {
        if let Some(file) = &self.registries_conf {
            return vec![file.clone()];
        }
        let user = self.containers_config();
        let own = user.as_ref().map(|dir| dir.join("registries.conf")).filter(|file| file.exists());
        // A user's own file stands for all of the system's, its drop-ins too.
        let mut files = if let Some(own) = own {
            vec![own]
        } else {
            let system = Path::new("/etc/containers");
            let mut files = vec![system.join("registries.conf")];
            files.extend(drop_ins(&system.join("registries.conf.d")));
            files
        };
        files.extend(user.iter().flat_map(|dir| drop_ins(&dir.join("registries.conf.d"))));
        files
    }
}

/// The `.conf` files of a directory in order of their names.
fn drop_ins(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "conf"))
        .collect();
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_choice_comes_first() {
        let mut paths = Paths { home: Some("/h".into()), runtime: Some("/run/u".into()), ..Paths::default() };
        let default: Vec<PathBuf> =
            ["/run/u/containers/auth.json", "/h/.config/containers/auth.json", "/h/.docker/config.json"]
                .map(PathBuf::from)
                .into();
        assert_eq!(paths.auth_files(), default);
        assert_eq!(paths.login_file(), Some("/h/.docker/config.json".into()));
        paths.docker_config = Some("/d".into());
        assert_eq!(paths.auth_files().first(), Some(&PathBuf::from("/d/config.json")));
        paths.auth_file = Some("/a.json".into());
        assert_eq!(paths.auth_files(), [PathBuf::from("/a.json")]);
        assert_eq!(paths.login_file(), Some("/a.json".into()));
    }

    #[test]
    fn regression_a_users_own_registries_conf_hides_the_systems_drop_ins() {
        let home = tempfile::tempdir().expect("a directory");
        let paths = Paths { home: Some(home.path().into()), ..Paths::default() };
        let system = |files: &[PathBuf]| files.iter().filter(|file| file.starts_with("/etc")).count();
        assert!(system(&paths.registries_files()) > 0);
        let own = home.path().join(".config/containers");
        std::fs::create_dir_all(own.join("registries.conf.d")).expect("a directory");
        for file in ["registries.conf", "registries.conf.d/mine.conf"] {
            std::fs::write(own.join(file), "").expect("a file");
        }
        let expected = [own.join("registries.conf"), own.join("registries.conf.d/mine.conf")];
        assert_eq!(paths.registries_files(), expected);
    }

    #[test]
    fn certificates_are_looked_for_per_host() {
        let paths = Paths { home: Some("/h".into()), ..Paths::default() };
        let dirs = paths.cert_dirs("reg:5000");
        assert_eq!(dirs.first(), Some(&PathBuf::from("/h/.config/containers/certs.d/reg:5000")));
        assert_eq!(dirs.last(), Some(&PathBuf::from("/etc/docker/certs.d/reg:5000")));
        let paths = Paths { cert_dir: Some("/c".into()), ..paths };
        assert_eq!(paths.cert_dirs("reg:5000"), [PathBuf::from("/c")]);
    }
}
