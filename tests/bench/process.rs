//! Memory and processor time of child processes, from /proc; `None` on systems without it.

use std::{fs, ops::Sub, time::Duration};

/// Unit of processor time in /proc: `USER_HZ` is 100 on every Linux architecture (proc(5)).
const TICK: Duration = Duration::from_millis(10);

/// Process id of the child with this name.
pub fn child(name: &str) -> Option<u32> {
    let ours = Some(std::process::id());
    processes()?.into_iter().find(|id| parent(*id) == ours && is_named(*id, name))
}

fn processes() -> Option<Vec<u32>> {
    Some(fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
}

fn parent(id: u32) -> Option<u32> {
    stat(id)?.get(1)?.parse().ok()
}

fn is_named(id: u32, name: &str) -> bool {
    fs::read_to_string(format!("/proc/{id}/comm")).is_ok_and(|comm| comm.trim() == name)
}

/// Whether it is a process of a PostgreSQL server below this process.
fn is_database_server(id: u32) -> bool {
    let mut ancestors = std::iter::successors(Some(id), |id| parent(*id));
    is_named(id, "postgres") && ancestors.any(|ancestor| ancestor == std::process::id())
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

/// Processor time used by the service, its node, a database server and this program.
#[derive(Clone, Copy)]
pub struct Cpu {
    pub service: Duration,
    pub node: Duration,
    /// Of all sessions that are still open.
    pub database: Duration,
    pub bench: Duration,
}

impl Cpu {
    pub fn now() -> Option<Self> {
        Some(Self {
            service: used(child("registrar")?)?,
            node: used(child("anvil")?)?,
            database: processes()?.into_iter().filter(|id| is_database_server(*id)).filter_map(used).sum(),
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
            database: self.database.saturating_sub(earlier.database),
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
