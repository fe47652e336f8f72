//! What networks are like: one table, by name.

use std::str::FromStr;
use std::time::Duration;

/// A network, the same in both directions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Profile {
    pub name: &'static str,
    /// kbit/s; 0 is no limit.
    pub rate: u32,
    /// One way.
    pub delay: Duration,
    /// Twice the standard deviation of a half-normal addition to the delay; order is kept.
    pub jitter: Duration,
    /// Share of packets, 0 to 1.
    pub loss: f64,
    /// Mean length of a run of losses, packets; 1 is independent losses.
    pub burst: f64,
    /// The longest wait in the drop-tail queue before the bottleneck.
    pub queue: Duration,
}

/// All there are.
pub const PROFILES: [Profile; 14] = [
    //                 kbit/s delay jitter loss % burst queue ms
    profile("lan", 0, 0, 0, 0.0, 1, 50),
    profile("wifi", 30_000, 5, 3, 0.1, 1, 200),
    profile("dsl", 2_000, 20, 2, 0.1, 1, 300),
    profile("lte", 10_000, 35, 10, 0.5, 2, 300),
    profile("3g", 780, 100, 20, 0.5, 2, 500),
    profile("edge", 240, 200, 40, 1.0, 2, 1000),
    profile("lossy5", 0, 50, 5, 5.0, 1, 300),
    profile("lossy10", 0, 50, 10, 10.0, 3, 300),
    profile("lossy20", 0, 50, 10, 20.0, 3, 300),
    profile("jittery", 5_000, 60, 80, 1.0, 2, 500),
    profile("narrow500", 500, 30, 2, 0.0, 1, 300),
    profile("narrow200", 200, 50, 5, 0.0, 1, 500),
    profile("satellite", 5_000, 300, 10, 1.0, 3, 1000),
    profile("dead", 1, 0, 0, 100.0, 1, 1),
];

const fn profile(
    name: &'static str,
    rate: u32,
    delay: u64,
    jitter: u64,
    loss: f64,
    burst: u32,
    queue: u64,
) -> Profile {
    Profile {
        name,
        rate,
        delay: Duration::from_millis(delay),
        jitter: Duration::from_millis(jitter),
        loss: loss / 100.0,
        burst: burst as f64,
        queue: Duration::from_millis(queue),
    }
}

impl FromStr for Profile {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        PROFILES.iter().find(|profile| profile.name == name).copied().ok_or_else(|| {
            let names: Vec<&str> = PROFILES.iter().map(|profile| profile.name).collect();
            format!("no such network; there are {}", names.join(", "))
        })
    }
}

/// A change of the network: `SECONDS:PROFILE`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    pub at: Duration,
    pub profile: Profile,
}

impl FromStr for Step {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (at, name) = text.split_once(':').ok_or("give SECONDS:PROFILE")?;
        let at = at.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        Ok(Self { at: at.ok_or("give SECONDS:PROFILE")?, profile: name.parse()? })
    }
}
