//! What the reader holds of one container between two scrapes.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::file::{Files, Handle};
use super::limits::Limits;
use super::plan::Plan;
use super::process::Process;
use super::sample::Sample;
use crate::discover::ContainerId;

/// A container with a cgroup, its open files and its last values.
#[derive(Debug)]
pub struct Container {
    /// Its id; none for the host as a whole.
    pub id: Option<ContainerId>,
    /// Cgroup path with a leading slash; `/` for the host.
    pub path: String,
    /// What was read in the last pass.
    pub sample: Sample,
    /// Its limits, as of the last time they were read.
    pub limits: Limits,
    /// False once its cgroup is seen to be gone.
    pub alive: bool,
    /// When the limits are to be read again; at once where none.
    pub(super) limits_due: Option<Instant>,
    pub(super) handles: Vec<Handle>,
    pub(super) procs: Handle,
    /// Its directory in the tree that is walked, to count the cgroups below it.
    pub(super) directory: Option<File>,
    pub(super) process: Option<Process>,
    /// A descriptor is set aside for its process.
    process_kept: bool,
    /// Its processes, as of the last pass.
    pub(super) pids: Vec<u32>,
}

impl Container {
    pub(super) fn new(id: Option<ContainerId>, path: String, plan: &Plan) -> Self {
        Self {
            id,
            path,
            sample: Sample::new(plan.slots, plan.columns),
            limits: Limits::default(),
            alive: true,
            limits_due: None,
            handles: plan.files.iter().map(|_| Handle::New).collect(),
            procs: Handle::New,
            directory: None,
            process: None,
            process_kept: false,
            pids: Vec::new(),
        }
    }

    /// The path of one of its files, in a reused buffer.
    pub(super) fn file_path(&self, tree: &Path, name: &str, path: &mut PathBuf) {
        path.as_mut_os_string().clear();
        path.push(tree);
        path.push(self.path.trim_start_matches('/'));
        path.push(name);
    }

    /// Whether there are cgroups below its own: told by its directory's link count, where the file system keeps one.
    pub(super) fn has_children(&mut self, tree: &Path, path: &mut PathBuf, files: &mut Files) -> bool {
        let links = |directory: &File| directory.metadata().ok().map(|meta| meta.nlink());
        if let Some(directory) = &self.directory {
            return links(directory) != Some(2);
        }
        self.file_path(tree, "", path);
        let Ok(directory) = File::open(path.as_path()) else { return true };
        let links = links(&directory);
        self.directory = files.may_keep().then_some(directory);
        links != Some(2)
    }

    /// After a pass: holds on to its process where there is a descriptor for it.
    pub(super) fn keep_process(&mut self, files: &mut Files) {
        if self.process.is_some() && !self.process_kept {
            self.process_kept = files.may_keep();
            self.process = self.process.take().filter(|_| self.process_kept);
        }
    }

    /// Gives its descriptors back.
    pub(super) fn close(&mut self, files: &mut Files) {
        let open = self.handles.iter().chain([&self.procs]).filter(|handle| matches!(handle, Handle::Open(_))).count();
        files.release(open + usize::from(self.directory.is_some()) + usize::from(self.process_kept));
        self.handles.clear();
        self.procs = Handle::New;
        self.directory = None;
        self.process = None;
        self.process_kept = false;
    }

    /// Absent files are looked for again: some appear later than the directory, or with a controller that is enabled.
    pub(super) fn retry_absent(&mut self) {
        self.handles.iter_mut().chain([&mut self.procs]).for_each(Handle::retry);
    }
}

#[cfg(test)]
mod tests {
    use super::{Container, Files, Plan};

    #[test]
    fn the_directory_counts_among_the_kept_descriptors() {
        let tree = tempfile::tempdir().unwrap();
        let mut files = Files::new(true);
        let mut container = Container::new(None, "/".to_owned(), &Plan::default());
        assert!(!container.has_children(tree.path(), &mut std::path::PathBuf::new(), &mut files));
        assert_eq!(files.descriptors().1, 1);
        assert!(!container.has_children(tree.path(), &mut std::path::PathBuf::new(), &mut files));
        assert_eq!(files.descriptors().1, 1);
        container.close(&mut files);
        assert_eq!(files.descriptors().1, 0);
    }
}
