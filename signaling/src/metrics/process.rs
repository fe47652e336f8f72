//! What the whole process takes, under the names Prometheus's own clients use. Read when asked
//! for; only on Linux.

use std::fmt::Error;

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};

/// Reads `/proc/self`.
#[derive(Debug)]
pub(super) struct Process;

#[cfg(not(target_os = "linux"))]
impl Collector for Process {
    fn encode(&self, _encoder: DescriptorEncoder) -> Result<(), Error> {
        Ok(())
    }
}

#[cfg(target_os = "linux")]
impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), Error> {
        use prometheus_client::{
            encoding::EncodeMetric,
            metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
        };
        let usage = Usage::read();
        if let Some(seconds) = usage.cpu_seconds {
            let help = "CPU time of all threads, in user and system mode";
            let name = "process_cpu_seconds";
            let encoder = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(seconds).encode(encoder)?;
        }
        for (name, help, value) in [
            ("process_resident_memory_bytes", "Memory in use", usage.memory_bytes),
            ("process_open_fds", "Open files and sockets", usage.open_files),
            ("process_max_fds", "Open files and sockets allowed", usage.most_files),
        ] {
            if let Some(value) = value {
                let encoder = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
                ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(encoder)?;
            }
        }
        Ok(())
    }
}

#[cfg(target_os = "linux")]
struct Usage {
    cpu_seconds: Option<f64>,
    memory_bytes: Option<u64>,
    open_files: Option<u64>,
    most_files: Option<u64>,
}

#[cfg(target_os = "linux")]
impl Usage {
    fn read() -> Self {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // After the name, which may hold anything; the first field there is the third of proc(5).
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .map(|(_, rest)| rest.split_whitespace().collect())
            .unwrap_or_default();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let ticks = rustix::param::clock_ticks_per_second().max(1);
        let cpu_seconds =
            field(14).zip(field(15)).map(|(user, system)| (user + system) as f64 / ticks as f64);
        let memory_bytes = field(24).map(|pages| pages * rustix::param::page_size() as u64);
        let open_files =
            std::fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as u64);
        let files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        Self { cpu_seconds, memory_bytes, open_files, most_files: files.current }
    }
}
