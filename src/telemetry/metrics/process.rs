//! What the kernel says of this process, by the names that every Prometheus client gives it
//! (<https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>).

use procfs::process::{LimitValue, Process as Ours};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};
use std::fmt;

/// Asks the kernel whenever the page is asked for.
#[derive(Debug)]
pub(super) struct ProcessCollector;

/// What it says. Whatever it does not say is left out.
struct ProcessStats {
    cpu_seconds: f64,
    start_seconds: Option<f64>,
    resident_bytes: u64,
    virtual_bytes: u64,
    threads: i64,
    open_fds: Option<u64>,
    max_fds: Option<u64>,
}

impl ProcessStats {
    fn read() -> procfs::ProcResult<Self> {
        let ours = Ours::myself()?;
        let stat = ours.stat()?;
        let seconds = |ticks: u64| ticks as f64 / procfs::ticks_per_second() as f64;
        let max_fds = |limits: procfs::process::Limits| match limits.max_open_files.soft_limit {
            LimitValue::Value(most) => Some(most),
            LimitValue::Unlimited => None,
        };
        Ok(Self {
            cpu_seconds: seconds(stat.utime + stat.stime),
            start_seconds: procfs::boot_time_secs().ok().map(|boot| boot as f64 + seconds(stat.starttime)),
            resident_bytes: stat.rss * procfs::page_size(),
            virtual_bytes: stat.vsize,
            threads: stat.num_threads,
            open_fds: ours.fd_count().ok().map(|count| count as u64),
            max_fds: ours.limits().ok().and_then(max_fds),
        })
    }
}

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Ok(seen) = ProcessStats::read() else { return Ok(()) };
        let mut say = |name, help, unit: Option<Unit>, metric: &dyn EncodeMetric| {
            metric.encode(encoder.encode_descriptor(name, help, unit.as_ref(), metric.metric_type())?)
        };
        let cpu = ConstCounter::new(seen.cpu_seconds);
        say("process_cpu", "User and system CPU time of the process.", Some(Unit::Seconds), &cpu)?;
        let resident = ConstGauge::new(seen.resident_bytes);
        say("process_resident_memory", "Resident memory of the process.", Some(Unit::Bytes), &resident)?;
        let virt = ConstGauge::new(seen.virtual_bytes);
        say("process_virtual_memory", "Virtual memory of the process.", Some(Unit::Bytes), &virt)?;
        say("process_threads", "Threads of the process.", None, &ConstGauge::new(seen.threads))?;
        if let Some(open) = seen.open_fds {
            say("process_open_fds", "File descriptors that are open.", None, &ConstGauge::new(open))?;
        }
        if let Some(most) = seen.max_fds {
            say("process_max_fds", "File descriptors that may be open.", None, &ConstGauge::new(most))?;
        }
        if let Some(start) = seen.start_seconds {
            let help = "When the process began, since the Unix epoch.";
            say("process_start_time", help, Some(Unit::Seconds), &ConstGauge::new(start))?;
        }
        Ok(())
    }
}
