//! Lists of images in lists of images: the image-spec lets an index list indexes, which may list more.

use super::{Descriptor, Index, InvalidDocument, Platform};
use std::collections::HashSet;

/// How deep lists may be in each other. Digests allow no circle, but a chain may be as long as its author likes.
const DEPTH_MAX: usize = 8;
/// How many lists one may hold, at whatever depth: each has to be fetched and parsed.
const LISTS_MAX: usize = 64;

/// How many lists of images have been read already for the one at hand.
#[derive(Debug, Clone, Copy)]
pub struct Nesting {
    depth: usize,
    lists: usize,
}

impl Nesting {
    /// An error where there are too many.
    pub fn check(self) -> Result<(), InvalidDocument> {
        if self.depth > DEPTH_MAX || self.lists > LISTS_MAX {
            return Err(InvalidDocument::Nested { depth: DEPTH_MAX, lists: LISTS_MAX });
        }
        Ok(())
    }
}

impl Index {
    /// Whether it lists lists.
    pub fn is_nested(&self) -> bool {
        self.manifests.iter().any(Descriptor::is_list)
    }

    /// This list with what the lists in it list in their place, each once. `read` reads such a list; one that it has not, or that
    /// says to be for platforms where `wanted` does not run, stays what it is. An entry that says no platform has that of the list
    /// it stands in.
    pub fn flattened<E>(
        &self,
        wanted: Option<&Platform>,
        mut read: impl FnMut(&Descriptor, Nesting) -> Result<Option<Self>, E>,
    ) -> Result<Self, E> {
        let mut flat = Self { manifests: Vec::new(), ..self.clone() };
        let mut seen = HashSet::new();
        // What is still to be looked at, the first on top, and how deep in lists it is.
        let mut rest: Vec<(Descriptor, usize)> = self.manifests.iter().rev().map(|entry| (entry.clone(), 1)).collect();
        while let Some((entry, depth)) = rest.pop() {
            let serves = |platform: &Platform| wanted.is_none_or(|wanted| wanted.distance_to(platform).is_some());
            if !entry.is_list() || !entry.platform.as_ref().is_none_or(serves) {
                flat.manifests.push(entry);
                continue;
            }
            if !seen.insert((entry.digest, entry.platform.clone())) {
                continue;
            }
            match read(&entry, Nesting { depth, lists: seen.len() })? {
                Some(list) => rest.extend(list.manifests.into_iter().rev().map(|mut inner| {
                    inner.platform = inner.platform.or_else(|| entry.platform.clone());
                    (inner, depth + 1)
                })),
                None => flat.manifests.push(entry),
            }
        }
        let mut known = HashSet::new();
        flat.manifests.retain(|entry| known.insert((entry.digest, entry.platform.clone())));
        Ok(flat)
    }
}

#[cfg(test)]
mod tests {
    use super::super::MediaType;
    use super::*;

    fn entry(kind: MediaType, text: &str, platform: Option<&str>) -> Descriptor {
        let platform = platform.map(|text| text.parse().unwrap());
        Descriptor { platform, ..Descriptor::of(kind, text.as_bytes()) }
    }

    fn image(text: &str, platform: Option<&str>) -> Descriptor {
        entry(MediaType::OciManifest, text, platform)
    }

    fn list(text: &str, platform: Option<&str>) -> Descriptor {
        entry(MediaType::OciIndex, text, platform)
    }

    /// Flattens `top`, where the lists are those of `lists` by their texts.
    fn flatten(top: Vec<Descriptor>, lists: &[(&str, Vec<Descriptor>)], wanted: Option<&str>) -> Vec<Descriptor> {
        let wanted = wanted.map(|text| text.parse().unwrap());
        let read = |entry: &Descriptor, nesting: Nesting| {
            nesting.check()?;
            let found = lists.iter().find(|(text, _)| list(text, None).digest == entry.digest);
            Ok::<_, InvalidDocument>(found.map(|(_, entries)| Index::new(entries.clone())))
        };
        Index::new(top).flattened(wanted.as_ref(), read).unwrap().manifests
    }

    #[test]
    fn lists_give_way_to_what_they_list() {
        let lists = [
            ("inner", vec![image("b", None), list("deeper", None), image("a", Some("linux/amd64"))]),
            ("deeper", vec![image("c", Some("linux/s390x"))]),
        ];
        let top = vec![image("a", Some("linux/amd64")), list("inner", Some("linux/arm64")), list("gone", None)];
        let expected = [
            image("a", Some("linux/amd64")),
            image("b", Some("linux/arm64")),
            image("c", Some("linux/s390x")),
            list("gone", None),
        ];
        assert_eq!(flatten(top, &lists, None), expected);
    }

    #[test]
    fn a_list_that_is_listed_for_two_platforms_counts_for_both() {
        let lists = [("inner", vec![image("a", None)])];
        let top = ["linux/arm/v6", "linux/arm/v7"].map(|platform| list("inner", Some(platform))).to_vec();
        let expected = ["linux/arm/v6", "linux/arm/v7"].map(|platform| image("a", Some(platform)));
        assert_eq!(flatten(top, &lists, None), expected);
    }

    #[test]
    fn a_list_for_others_is_not_read() {
        let lists = [("inner", vec![image("b", None)])];
        let top = vec![list("inner", Some("linux/arm64"))];
        assert_eq!(flatten(top.clone(), &lists, Some("linux/amd64")), top);
        assert_eq!(flatten(top, &lists, Some("linux/arm64")), [image("b", Some("linux/arm64"))]);
    }

    #[test]
    fn a_circle_and_a_long_chain_end() {
        let lists = [("one", vec![list("two", None)]), ("two", vec![list("one", None), image("a", None)])];
        assert_eq!(flatten(vec![list("one", None)], &lists, None), [image("a", None)]);
        let endless = |_: &Descriptor, nesting: Nesting| {
            nesting.check()?;
            Ok(Some(Index::new(vec![list(&format!("{}", nesting.depth), None)])))
        };
        let failed = Index::new(vec![list("first", None)]).flattened(None, endless);
        assert!(matches!(failed, Err(InvalidDocument::Nested { .. })), "{failed:?}");
        let wide = (0..100).map(|at| list(&at.to_string(), None)).collect();
        let many = |_: &Descriptor, nesting: Nesting| nesting.check().map(|()| Some(Index::new(Vec::new())));
        assert!(matches!(Index::new(wide).flattened(None, many), Err(InvalidDocument::Nested { .. })));
    }
}
