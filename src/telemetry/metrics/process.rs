//! Process metrics from `/proc`, under the standard names
//! (<https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>).

use procfs::process::{LimitValue, Process};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};
use std::fmt;

/// Reads `/proc` each time the metrics are read.
#[derive(Debug)]
pub(super) struct ProcessCollector;

/// A missing value is omitted.
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
        let process = Process::myself()?;
        let stat = process.stat()?;
        let seconds = |ticks: u64| ticks as f64 / procfs::ticks_per_second() as f64;
        let max_fds = |limits: procfs::process::Limits| match limits.max_open_files.soft_limit {
            LimitValue::Value(limit) => Some(limit),
            LimitValue::Unlimited => None,
        };
        Ok(Self {
            cpu_seconds: seconds(stat.utime + stat.stime),
            start_seconds: procfs::boot_time_secs().ok().map(|boot| boot as f64 + seconds(stat.starttime)),
            resident_bytes: stat.rss * procfs::page_size(),
            virtual_bytes: stat.vsize,
            threads: stat.num_threads,
            open_fds: process.fd_count().ok().map(|count| count as u64),
            max_fds: process.limits().ok().and_then(max_fds),
        })
    }
}

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Ok(stats) = ProcessStats::read() else { return Ok(()) };
        let mut export = |name, help, unit: Option<Unit>, metric: &dyn EncodeMetric| {
            metric.encode(encoder.encode_descriptor(name, help, unit.as_ref(), metric.metric_type())?)
        };
        let cpu = ConstCounter::new(stats.cpu_seconds);
        export("process_cpu", "User and system CPU time of the process.", Some(Unit::Seconds), &cpu)?;
        let resident = ConstGauge::new(stats.resident_bytes);
        export("process_resident_memory", "Resident memory of the process.", Some(Unit::Bytes), &resident)?;
        let virt = ConstGauge::new(stats.virtual_bytes);
        export("process_virtual_memory", "Virtual memory of the process.", Some(Unit::Bytes), &virt)?;
        export("process_threads", "Threads of the process.", None, &ConstGauge::new(stats.threads))?;
        if let Some(open) = stats.open_fds {
            export("process_open_fds", "Open file descriptors.", None, &ConstGauge::new(open))?;
        }
        if let Some(most) = stats.max_fds {
            export("process_max_fds", "Limit of open file descriptors.", None, &ConstGauge::new(most))?;
        }
        if let Some(start) = stats.start_seconds {
            let help = "Start time of the process since the Unix epoch.";
            export("process_start_time", help, Some(Unit::Seconds), &ConstGauge::new(start))?;
        }
        Ok(())
    }
}
