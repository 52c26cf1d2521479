//! The process as the operating system sees it, under the names that every client library of Prometheus gives it, and
//! the program that it runs.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};

use super::register::Register;

/// What was built.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
    commit: &'static str,
}

/// Shows both from the first moment on.
pub(super) fn register(r: &mut Register) {
    let labels = BuildLabels {
        version: env!("CARGO_PKG_VERSION"),
        commit: option_env!("HEARTHSIDE_COMMIT").unwrap_or("unknown"),
    };
    let build: Family<BuildLabels, Gauge> = r.family_of(
        "build_info",
        "1, with the version of the program, and the commit that it was built from where that is known",
        [labels.clone()],
    );
    build.get_or_create(&labels).set(1);
    r.collector(Box::new(Process));
}

/// Asks the operating system whenever metrics are asked for.
#[derive(Debug)]
struct Process;

/// What the operating system says. Nothing is shown where it says nothing.
#[cfg(target_os = "linux")]
fn look() -> Option<[f64; 7]> {
    use procfs::WithCurrentSystemInfo as _;
    use procfs::process::{LimitValue, Process};
    let process = Process::myself().ok()?;
    let (stat, ticks) = (process.stat().ok()?, procfs::ticks_per_second() as f64);
    let most = match process.limits().ok()?.max_open_files.soft_limit {
        LimitValue::Unlimited => f64::INFINITY,
        LimitValue::Value(most) => most as f64,
    };
    let began = procfs::boot_time_secs().ok()? as f64 + stat.starttime as f64 / ticks;
    let resident = stat.rss_bytes().get() as f64;
    let cpu = (stat.utime + stat.stime) as f64 / ticks;
    Some([cpu, process.fd_count().ok()? as f64, most, stat.vsize as f64, resident, began, stat.num_threads as f64])
}

/// Elsewhere nobody is asked.
#[cfg(not(target_os = "linux"))]
const fn look() -> Option<[f64; 7]> {
    None
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some([cpu, open, most, virtual_memory, resident, began, threads]) = look() else { return Ok(()) };
        let used = ConstCounter::new(cpu);
        let name = "process_cpu_seconds";
        let help = "CPU time that the process has used, of its own and of the system, in seconds.";
        used.encode(encoder.encode_descriptor(name, help, None, used.metric_type())?)?;
        let gauges = [
            ("process_open_fds", "Open file descriptors.", open),
            ("process_max_fds", "File descriptors that may be open at most.", most),
            ("process_virtual_memory_bytes", "Virtual memory, in bytes.", virtual_memory),
            ("process_resident_memory_bytes", "Resident memory, in bytes.", resident),
            ("process_start_time_seconds", "When the process began, in seconds since 1970.", began),
            ("process_threads", "Threads of the process.", threads),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}
