//! The servers that are measured.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use crate::{
    rig::{
        machine::Cores,
        server::{self, Server, UNLIMITED},
        wire::{Dialect, Wire},
    },
    run::Args,
};

pub struct Subject {
    pub name: &'static str,
    pub dialect: Dialect,
    program: PathBuf,
    args: Vec<String>,
}

impl Subject {
    /// Ours at `/ws`, without limits unless `wanted` says so.
    pub fn ours(program: &Path, flags: &[(&str, &str)]) -> Result<Self> {
        // Keys of a benchmark are not the user's.
        let target = program.parent().and_then(Path::parent).context("no target directory")?;
        let state = target.join("tmp/benchmark-state").display().to_string();
        let flags = [flags, &[("--state-dir", state.as_str())]].concat();
        Ok(Self {
            name: "ours, `/ws`",
            dialect: Dialect::Plain,
            program: program.to_owned(),
            args: server::arguments(program, &flags)?,
        })
    }

    pub fn start(&self, cores: Cores, unpinned: bool) -> Result<Server> {
        let core = (!unpinned).then_some(cores.server);
        Server::start(&self.program, &self.args, core, cores.load)
    }
}

/// Ours over both of its wires (the second if this build has it), and Node's.
pub async fn subjects(args: &Args) -> Result<Vec<Subject>> {
    let wanted = |name: &str| args.only.as_ref().is_none_or(|only| name.contains(only.as_str()));
    let ours = Subject::ours(&args.program, UNLIMITED)?;
    let mut subjects = Vec::new();
    let over_socket_io = Subject {
        name: "ours, Socket.IO",
        dialect: Dialect::SocketIo,
        program: ours.program.clone(),
        args: ours.args.clone(),
    };
    if wanted(ours.name) {
        subjects.push(ours);
    }
    if wanted(over_socket_io.name) {
        if speaks(&over_socket_io).await? {
            subjects.push(over_socket_io);
        } else {
            eprintln!("this build has no /socket.io/: left out");
        }
    }
    if wanted(NODE) {
        subjects.push(node(&args.program)?);
    }
    Ok(subjects)
}

async fn speaks(subject: &Subject) -> Result<bool> {
    let server = Server::start(&subject.program, &subject.args, None, 0)?;
    Ok(Wire::open(server.address, None, subject.dialect).await.is_ok())
}

const NODE: &str = "node, socket.io 4.8";

/// Installs socket.io as the lock file says, once, under `target/`.
fn node(ours: &Path) -> Result<Subject> {
    let source = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/socketio"));
    let target = ours.parent().and_then(Path::parent).context("no target directory")?;
    let folder = target.join("npm/socketio");
    fs::create_dir_all(&folder)?;
    let lock = fs::read(source.join("package-lock.json"))?;
    let installed = folder.join("node_modules/.package-lock.json").exists()
        && fs::read(folder.join("package-lock.json")).is_ok_and(|there| there == lock);
    for file in ["package.json", "package-lock.json", "server.js"] {
        fs::copy(source.join(file), folder.join(file)).with_context(|| file.to_owned())?;
    }
    if !installed {
        let status = Command::new("npm")
            .args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"])
            .current_dir(&folder)
            .stdout(std::io::stderr())
            .status()
            .context("the yardstick needs Node and npm (Debian: apt-get install nodejs npm)")?;
        ensure!(status.success(), "npm could not install socket.io: {status}");
    }
    Ok(Subject {
        name: NODE,
        dialect: Dialect::SocketIo,
        program: "node".into(),
        args: vec![folder.join("server.js").display().to_string()],
    })
}
