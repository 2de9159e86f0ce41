//! Memory and processor time of child processes, from /proc; `None` on systems without it.

use std::{fs, ops::Sub, time::Duration};

/// Unit of processor time in /proc: `USER_HZ` is 100 on every Linux architecture (proc(5)).
const TICK: Duration = Duration::from_millis(10);

/// Process id of the child with this name.
pub fn child(name: &str) -> Option<u32> {
    let ours = std::process::id();
    fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).find(|id| {
        let of_child = stat(*id).is_some_and(|fields| fields.get(1).and_then(|p| p.parse().ok()) == Some(ours));
        of_child && fs::read_to_string(format!("/proc/{id}/comm")).is_ok_and(|comm| comm.trim() == name)
    })
}

/// Current and peak resident memory of a process, in MiB.
pub fn memory(id: u32) -> Option<(f64, f64)> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let mebibytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.trim().strip_suffix(" kB")?.trim().parse::<f64>().ok()? / 1024.0)
    };
    Some((mebibytes("VmRSS:")?, mebibytes("VmHWM:")?))
}

/// Processor time used by the service, its node and this program.
#[derive(Clone, Copy)]
pub struct Cpu {
    pub service: Duration,
    pub node: Duration,
    pub bench: Duration,
}

impl Cpu {
    pub fn now() -> Option<Self> {
        Some(Self {
            service: used(child("registrar")?)?,
            node: used(child("anvil")?)?,
            bench: used(std::process::id())?,
        })
    }
}

impl Sub for Cpu {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            service: self.service - earlier.service,
            node: self.node - earlier.node,
            bench: self.bench - earlier.bench,
        }
    }
}

/// User and system time.
fn used(id: u32) -> Option<Duration> {
    let fields = stat(id)?;
    let ticks = |index: usize| fields.get(index)?.parse::<u32>().ok();
    Some(TICK * (ticks(11)? + ticks(12)?))
}

/// Fields of `/proc/<id>/stat` from the state on; the command name before it may contain any character.
fn stat(id: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    Some(text.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect())
}
