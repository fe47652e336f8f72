//! Hosts of a test's own: network namespaces, with or without being root.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// A network namespace, alive as long as the process that holds it.
pub struct Host {
    holder: Child,
}

impl Host {
    /// `enter` puts the new namespace into another user namespace.
    pub fn new(enter: &[String]) -> Result<Self> {
        let mut words = enter.to_vec();
        words.push("unshare".to_owned());
        if enter.is_empty() && !may_without() {
            // An ordinary user is root in a user namespace of their own.
            words.extend(["--user", "--map-root-user"].map(str::to_owned));
        }
        // `cat` ends by itself when its standard input, held by us, is closed.
        words.extend(["--net", "sh", "-c", "echo ready; exec cat"].map(str::to_owned));
        let mut holder = command(&words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("unshare of util-linux")?;
        let mut line = String::new();
        let out = holder.stdout.take().context("no stdout")?;
        BufReader::new(out).read_line(&mut line)?;
        if line.trim() != "ready" {
            let said = holder.wait_with_output()?.stderr;
            bail!("no namespace: {}", String::from_utf8_lossy(&said).trim());
        }
        Ok(Self { holder })
    }

    pub fn pid(&self) -> String {
        self.holder.id().to_string()
    }

    /// The words that start a program on this host.
    pub fn enter(&self) -> Vec<String> {
        let mut words = vec!["nsenter".to_owned(), "--target".to_owned(), self.pid()];
        if !may_without() {
            words.extend(["--user", "--preserve-credentials"].map(str::to_owned));
        }
        words.push("--net".to_owned());
        words
    }

    /// `ip` of iproute2.
    pub fn ip(&self, arguments: &str) -> Result<()> {
        let words: Vec<&str> = ["ip"].into_iter().chain(arguments.split(' ')).collect();
        self.run(&words)
    }

    /// Runs a program on this host to its end.
    pub fn run(&self, program: &[&str]) -> Result<()> {
        let mut words = self.enter();
        words.extend(program.iter().map(|word| (*word).to_owned()));
        let output = command(&words).output().with_context(|| program.join(" "))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}: {}", program.join(" "), said.trim());
        Ok(())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Already dead is as good.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

fn command(words: &[String]) -> Command {
    let mut words = words.iter();
    let mut command = Command::new(words.next().map_or("", String::as_str));
    command.args(words);
    command
}

/// Whether we are root already and need no user namespace.
pub fn may_without() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

/// The hosts; nothing where the system forbids namespaces (a container, a hardened kernel), which a
/// continuous-integration machine must not.
pub fn if_possible<T>(made: Result<T>) -> Result<Option<T>> {
    match made {
        Ok(lab) => Ok(Some(lab)),
        Err(error) if std::env::var_os("CI").is_some() => Err(error),
        Err(error) => {
            eprintln!("not tested, network namespaces cannot be had here: {error:#}");
            Ok(None)
        }
    }
}
