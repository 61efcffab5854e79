//! QEMU's monitor, as far as saving a machine needs it.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value, json};

/// A connection.
pub(super) struct Monitor {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
}

impl Monitor {
    /// Connects to the socket that QEMU listens on.
    pub(super) fn open(socket: &Path) -> anyhow::Result<Self> {
        let writer = UnixStream::connect(socket).with_context(|| socket.display().to_string())?;
        writer.set_read_timeout(Some(Duration::from_mins(5)))?;
        let mut monitor = Self { reader: BufReader::new(writer.try_clone()?), writer };
        monitor.call("qmp_capabilities", &json!({}))?;
        Ok(monitor)
    }

    /// Calls a command and gives what it returns. Greetings and events are passed over.
    pub(super) fn call(&mut self, command: &str, arguments: &Value) -> anyhow::Result<Value> {
        let message = json!({ "execute": command, "arguments": arguments });
        writeln!(self.writer, "{message}")?;
        let mut line = String::new();
        loop {
            line.clear();
            if self.reader.read_line(&mut line)? == 0 {
                bail!("QEMU ended before it answered {command}");
            }
            let answer: Value = serde_json::from_str(&line).with_context(|| line.clone())?;
            if let Some(value) = answer.get("return") {
                return Ok(value.clone());
            }
            if let Some(error) = answer.get("error") {
                bail!("QEMU refuses {command}: {error}");
            }
        }
    }
}
