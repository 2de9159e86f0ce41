//! The service's RPC calls, from its own metrics.

use crate::harness::Service;
use std::collections::BTreeMap;

/// By method.
pub struct RpcCalls(BTreeMap<String, f64>);

impl RpcCalls {
    pub async fn read(service: &Service) -> Self {
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

    pub fn since(&self, earlier: &Self) -> Self {
        let before = |method| earlier.0.get(method).copied().unwrap_or_default();
        Self(self.0.iter().map(|(method, count)| (method.clone(), count - before(method))).collect())
    }

    pub fn total(&self) -> f64 {
        self.0.values().sum()
    }

    /// One line, most frequent method first.
    pub fn by_method(&self) -> String {
        let mut methods: Vec<_> = self.0.iter().filter(|(_, count)| **count > 0.0).collect();
        methods.sort_by(|a, b| b.1.total_cmp(a.1));
        methods.iter().map(|(method, count)| format!("{method} {count:.0}")).collect::<Vec<_>>().join(", ")
    }
}
