//! The table: medians over the rounds, ratios to Chromium's, and the conditions they hold under.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::ends::{Figures, Kind};

const BEGIN: &str = "<!-- versus: written by the benchmark -->";
const END: &str = "<!-- versus: end -->";

/// One measured call.
pub struct Measured {
    pub ends: Vec<(Kind, Figures)>,
    /// What the rest of the machine used meanwhile: the noise.
    pub others_cores: f64,
}

/// The measured idle window.
pub struct Idle {
    pub cpu_cores: f64,
    pub pss_mib: f64,
    pub seconds: f64,
    pub first_frame_ms: f64,
    pub others_cores: f64,
}

/// Where and how it was measured.
pub struct Conditions {
    command: String,
    machine: String,
    chromium: String,
    date: String,
    load: String,
    clip: String,
}

impl Conditions {
    pub fn of_this_machine(clip: Option<&Path>) -> Result<Self> {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo")?;
        let field = |name: &str| {
            let line = cpuinfo.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let model = field("model name").unwrap_or_else(|| "unnamed CPU".to_owned());
        let cores = std::thread::available_parallelism()?;
        let said = |program: &str, args: &[&str]| -> Result<String> {
            let output =
                Command::new(program).args(args).output().with_context(|| program.to_owned())?;
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        // The first is the program's own path; where a file lies concerns nobody else.
        let args: Vec<String> = std::env::args()
            .skip(1)
            .filter(|arg| arg != "--bench")
            .map(|arg| match Path::new(&arg).file_name() {
                Some(name) if arg.starts_with('/') => name.to_string_lossy().into_owned(),
                _ => arg,
            })
            .collect();
        let name = clip.and_then(Path::file_name);
        Ok(Self {
            command: format!("make bench-window BENCH_ARGS='{}'", args.join(" ")),
            machine: format!("{cores} cores, {model}, Linux {}", said("uname", &["-r"])?),
            chromium: said("chromium", &["--version"])?,
            date: said("date", &["-u", "+%F %H:%M UTC"])?,
            load: std::fs::read_to_string("/proc/loadavg")?.trim().to_owned(),
            clip: name.map_or_else(
                || "the testcard as a clip".to_owned(),
                |name| name.to_string_lossy().into_owned(),
            ),
        })
    }
}

impl Measured {
    /// A line an end, for who watches the run.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.ends.iter().map(|(kind, figures)| {
            format!(
                "{kind:?}: {:.3} cores, {:.0} MiB, {}x{} at {:.1} fps, {:.0} kbit/s, connected {:?} ms, first \
                 picture {:?} ms; display {:?}, others {:.2} cores",
                figures.cpu_cores,
                figures.pss_mib,
                figures.width,
                figures.height,
                figures.fps,
                figures.kbps,
                figures.connect_ms,
                figures.first_frame_ms,
                figures.display_cores,
                self.others_cores
            )
        })
    }
}

/// The section for the document.
pub fn markdown(conditions: &Conditions, measured: &[Measured], idle: &Idle) -> String {
    let rows = [
        ("Chromium calling Chromium, either end", Kind::Chromium, Kind::Chromium),
        ("Visavis without a window calling the same, either end", Kind::Headless, Kind::Headless),
        ("Visavis with its window, calling one without", Kind::Window, Kind::Window),
    ];
    let mut text = format!(
        "{BEGIN}\n`{}`\n\n{}; {}; {}; load {}. Every end sends 1280x720 at 30 fps ({}) and speech, H.264 and \
         Opus. CPU and memory (PSS) are of all processes of an end. Medians over {} calls of each kind, made in turn.\n\n",
        conditions.command,
        conditions.machine,
        conditions.chromium,
        conditions.date,
        conditions.load,
        conditions.clip,
        measured.len() / 3,
    );
    text.push_str(
        "| end | CPU, cores | beside Chromium | CPU, ms a picture | PSS, MiB | beside Chromium | receives | fps | kbit/s | connect, ms | first picture, ms |\n\
         |---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    let of = |first: Kind, kind: Kind| -> Vec<&Figures> {
        measured
            .iter()
            .filter(|call| call.ends.first().is_some_and(|(at, _)| *at == first))
            .flat_map(|call| &call.ends)
            .filter(|(at, _)| *at == kind)
            .map(|(_, figures)| figures)
            .collect()
    };
    let yardstick = of(Kind::Chromium, Kind::Chromium);
    let cpu_there = median(yardstick.iter().map(|f| f.cpu_cores));
    let pss_there = median(yardstick.iter().map(|f| f.pss_mib));
    for (name, first, kind) in rows {
        let figures = of(first, kind);
        let middle =
            |pick: fn(&Figures) -> Option<f64>| median(figures.iter().filter_map(|f| pick(f)));
        let cpu = middle(|f| Some(f.cpu_cores));
        let pss = middle(|f| Some(f.pss_mib));
        let _ = writeln!(
            text,
            "| {name} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            shown(cpu, 3),
            ratio(cpu, cpu_there),
            shown(middle(|f| Some(f.cpu_cores * 1000.0 / f.fps)), 1),
            shown(pss, 0),
            ratio(pss, pss_there),
            sizes(&figures),
            shown(middle(|f| Some(f.fps)), 1),
            shown(middle(|f| Some(f.kbps)), 0),
            shown(middle(|f| f.connect_ms), 0),
            shown(middle(|f| f.first_frame_ms), 0),
        );
    }
    let display = median(of(Kind::Window, Kind::Window).iter().filter_map(|f| f.display_cores));
    let others = measured.iter().map(|call| call.others_cores);
    let most = others.clone().fold(0.0, f64::max);
    let _ = writeln!(
        text,
        "\nThe window is drawn by software GL; its X server used another {} cores. A tab also cancels echo and \
         suppresses noise. The rest of the machine used {} cores meanwhile, at most {most:.2}.\n\n\
         Idle in the lobby, no preview: {:.2} % of a core over {:.0} s, {:.0} MiB; first frame {:.0} ms after the \
         start (the rest of the machine used {:.2} cores).\n{END}",
        shown(display, 3),
        shown(median(others), 2),
        idle.cpu_cores * 100.0,
        idle.seconds,
        idle.pss_mib,
        idle.first_frame_ms,
        idle.others_cores,
    );
    text
}

/// Puts the section where it stood, or at the end.
pub fn write(path: &Path, section: &str) -> Result<()> {
    let old = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            "# Measurements\n\n## A call's cost beside Chromium's\n\n".to_owned()
        }
        Err(error) => return Err(error).with_context(|| path.display().to_string()),
    };
    let new = match (old.find(BEGIN), old.find(END)) {
        (Some(begin), Some(end)) if begin < end => {
            format!("{}{section}{}", &old[..begin], &old[end + END.len()..])
        }
        _ => format!("{old}{section}\n"),
    };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(path, new).with_context(|| path.display().to_string())
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let upper = values.get(values.len() / 2)?;
    let lower = values.get((values.len() - 1) / 2)?;
    Some(f64::midpoint(*lower, *upper))
}

/// The sizes received at the end of each call, once each.
fn sizes(figures: &[&Figures]) -> String {
    let mut sizes: Vec<String> =
        figures.iter().map(|f| format!("{}x{}", f.width, f.height)).collect();
    sizes.sort();
    sizes.dedup();
    sizes.join(", ")
}

fn shown(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "unknown".to_owned(), |value| format!("{value:.digits$}"))
}

fn ratio(value: Option<f64>, there: Option<f64>) -> String {
    shown(value.zip(there).map(|(value, there)| value / there), 2)
}
