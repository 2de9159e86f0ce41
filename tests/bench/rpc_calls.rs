//! How often the service calls its node, by its own count.

use crate::harness::Service;
use std::collections::BTreeMap;

/// Calls so far, by method.
pub struct RpcCalls(BTreeMap<String, f64>);

impl RpcCalls {
    /// Reads the service's metrics.
    pub async fn of(service: &Service) -> Self {
        let (status, text) = service.http("/metrics").await;
        assert_eq!(status, 200, "/metrics answers {status}: {text}");
        let mut calls = BTreeMap::new();
        for line in text.lines().filter(|line| line.starts_with("registrar_rpc_request_duration_seconds_count")) {
            let method = line.split_once("method=\"").and_then(|(_, rest)| Some(rest.split_once('"')?.0));
            let count: f64 = line.rsplit_once(' ').unwrap().1.parse().unwrap();
            *calls.entry(method.unwrap_or("?").to_owned()).or_default() += count;
        }
        assert!(!calls.is_empty(), "/metrics does not count RPC calls");
        Self(calls)
    }

    /// What came since then.
    pub fn since(&self, earlier: &Self) -> Self {
        let before = |method| earlier.0.get(method).copied().unwrap_or_default();
        Self(self.0.iter().map(|(method, count)| (method.clone(), count - before(method))).collect())
    }

    /// All of them.
    pub fn total(&self) -> f64 {
        self.0.values().sum()
    }

    /// By method, the most frequent first.
    pub fn by_method(&self) -> String {
        let mut methods: Vec<_> = self.0.iter().filter(|(_, count)| **count > 0.0).collect();
        methods.sort_by(|a, b| b.1.total_cmp(a.1));
        methods.iter().map(|(method, count)| format!("{method} {count:.0}")).collect::<Vec<_>>().join(", ")
    }
}
