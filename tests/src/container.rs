//! A container that is removed when the value goes. Called by the tests that need real ones.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::Engine;
use crate::kernel::Kernel;

/// A container of an engine.
pub struct Container<'e> {
    engine: &'e Engine,
    /// 64 hex digits.
    pub id: String,
    /// Its first name; see [`Container::rename`].
    pub name: String,
}

impl<'e> Container<'e> {
    /// `docker run -d` with a name of its own that contains `what`. Without a word on networks it has none.
    ///
    /// # Errors
    /// What the engine said.
    pub fn run(engine: &'e Engine, what: &str, options: &[&str], command: &[&str]) -> Result<Self> {
        Self::make(engine, &["run", "--detach"], what, options, command)
    }

    /// `docker create`.
    ///
    /// # Errors
    /// What the engine said.
    pub fn create(engine: &'e Engine, what: &str, options: &[&str], command: &[&str]) -> Result<Self> {
        Self::make(engine, &["create"], what, options, command)
    }

    /// A container that sleeps.
    ///
    /// # Errors
    /// What the engine said.
    pub fn sleeping(engine: &'e Engine, what: &str, options: &[&str]) -> Result<Self> {
        Self::run(engine, what, options, &["sleep", "1d"])
    }

    fn make(engine: &'e Engine, verb: &[&str], what: &str, options: &[&str], command: &[&str]) -> Result<Self> {
        let name = Engine::unique(what);
        let mut arguments = verb.to_vec();
        arguments.extend(["--name", &name]);
        // A network costs half of the time that a start takes: only those who ask pay.
        if !options.iter().any(|option| option.starts_with("--network")) {
            arguments.push("--network=none");
        }
        arguments.extend(options);
        arguments.push(engine.image());
        arguments.extend(command);
        let mut container = Self { engine, id: String::new(), name: name.clone() };
        let output = engine.docker(&arguments)?;
        output.lines().last().unwrap_or_default().trim().clone_into(&mut container.id);
        Ok(container)
    }

    /// Runs a command in it and gives its output.
    ///
    /// # Errors
    /// What the engine or the command said.
    pub fn exec(&self, command: &[&str]) -> Result<String> {
        let mut arguments = vec!["exec", self.id.as_str()];
        arguments.extend(command);
        self.engine.docker(&arguments)
    }

    /// `docker VERB ARGUMENTS ID`, for the many verbs with this shape.
    ///
    /// # Errors
    /// What the engine said.
    pub fn docker(&self, verb: &str, arguments: &[&str]) -> Result<String> {
        let mut all = vec![verb];
        all.extend(arguments);
        all.push(&self.id);
        self.engine.docker(&all)
    }

    /// Gives it another name.
    ///
    /// # Errors
    /// What the engine said.
    pub fn rename(&mut self) -> Result<()> {
        let name = Engine::unique("renamed");
        self.engine.docker(&["rename", &self.id, &name])?;
        self.name = name;
        Ok(())
    }

    /// Removes it and runs another one that sleeps under its name.
    ///
    /// # Errors
    /// What the engine said.
    pub fn rebuild(&mut self) -> Result<()> {
        self.docker("rm", &["--force"])?;
        let arguments = ["run", "--detach", "--network=none", "--name", &self.name, self.engine.image(), "sleep", "1d"];
        let output = self.engine.docker(&arguments)?;
        output.lines().last().unwrap_or_default().trim().clone_into(&mut self.id);
        Ok(())
    }

    /// `docker inspect --format`.
    ///
    /// # Errors
    /// What the engine said.
    pub fn inspect(&self, format: &str) -> Result<String> {
        self.docker("inspect", &["--format", format])
    }

    /// Pid of its first process.
    ///
    /// # Errors
    /// It is not running.
    pub fn pid(&self) -> Result<u32> {
        self.inspect("{{.State.Pid}}")?.parse().context("pid")
    }

    /// What the kernel says of it.
    ///
    /// # Errors
    /// It is not running.
    pub fn kernel(&self) -> Result<Kernel> {
        let pid = self.pid()?;
        Kernel::of(pid).with_context(|| format!("cgroups of {} (pid {pid})", self.name))
    }

    /// A file of its cgroup, with `controller` ignored where all controllers share one tree.
    ///
    /// # Errors
    /// It is not running.
    pub fn file(&self, controller: &str, name: &str) -> Result<PathBuf> {
        Ok(self.kernel()?.directory(controller)?.join(name))
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        // It may be gone already, and the engine with it.
        let mut command = self.engine.command();
        command.args(["rm", "--force", "--volumes", &self.name]);
        command.output().map(drop).unwrap_or_default();
    }
}
