//! Which cgroups are iterated over: the parents of containers.

/// Cgroups that are iterated over, at most: where containers have more parents, what these have in common.
const PARENTS: usize = 16;

/// Whether a cgroup is below another.
fn is_below(path: &str, parent: &str) -> bool {
    path.strip_prefix(parent).is_some_and(|rest| rest.starts_with('/'))
}

/// The parents of cgroups, none of them below another. Where there are too many, what they have in common.
pub(super) fn parents<'a>(paths: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut parents: Vec<String> = paths.filter_map(|path| Some(path.rsplit_once('/')?.0.to_owned())).collect();
    loop {
        // The root's own files do not have the kernel add up what is below.
        parents.retain(|parent| !parent.is_empty());
        parents.sort_unstable();
        parents.dedup_by(|later, earlier| later == earlier || is_below(later, earlier));
        if parents.len() <= PARENTS {
            return parents;
        }
        let deepest = parents.iter().map(|parent| parent.matches('/').count()).max().unwrap_or(0);
        for parent in parents.iter_mut().filter(|parent| parent.matches('/').count() == deepest) {
            let above = parent.rfind('/').unwrap_or(0);
            parent.truncate(above);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{is_below, parents};

    #[test]
    fn parents_are_named_once_and_what_is_below_another_goes_with_it() {
        let found = parents(["/docker/a", "/docker/b", "/docker/b/docker/c", "/top", "/shop.slice/x"].into_iter());
        assert_eq!(found, ["/docker", "/shop.slice"]);
        assert!(
            is_below("/docker/a", "/docker") && !is_below("/docker", "/docker") && !is_below("/dockers/a", "/docker")
        );
    }

    #[test]
    fn many_parents_are_followed_by_what_they_have_in_common() {
        let pods: Vec<String> = (0..40).map(|pod| format!("/kubepods/pod{pod}/one")).collect();
        assert_eq!(parents(pods.iter().map(String::as_str)), ["/kubepods"]);
        let alone: Vec<String> = (0..40).map(|slice| format!("/slice{slice}/one")).collect();
        assert!(parents(alone.iter().map(String::as_str)).is_empty());
    }
}
