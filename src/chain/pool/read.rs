//! Reads from the preferred endpoint, and from the next one when it is slow, fails, or has stale data.

use super::EndpointPool;
use crate::{
    chain::{CallError, EndpointFault, EndpointState, RejectReason},
    telemetry::{metrics, spans},
};
use alloy::rpc::json_rpc::{RpcRecv, RpcSend};
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// The first endpoint does not have the data (yet).
const REASON_STALE: &str = "behind";
/// The first endpoint is slow.
const REASON_HEDGE: &str = "hedge";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AnswerQuality {
    Accept,
    /// Another endpoint may know more; used when none does.
    TryNext,
}

enum ReadStep<R> {
    Done(Result<R, CallError>),
    /// With the reason for the failover metric.
    TryNext(&'static str, Result<R, CallError>),
}

type PendingRead<R> = BoxFuture<'static, (usize, Result<R, CallError>)>;

impl EndpointPool {
    pub(in crate::chain) async fn call<P: RpcSend, R: RpcRecv>(
        &self,
        position: usize,
        method: &'static str,
        params: P,
        attempt: u32,
    ) -> Result<R, CallError> {
        let started = Instant::now();
        let result = self.0.members[position].endpoint.read(method, params, attempt).await;
        self.record_call(position, result.as_ref().err(), started.elapsed());
        result
    }

    /// For what not every node offers and only callers ask for: but for a rate limit, the answer says nothing about the
    /// endpoint's health.
    pub(in crate::chain) async fn call_optional<P: RpcSend, R: RpcRecv>(
        &self,
        position: usize,
        method: &'static str,
        params: P,
    ) -> Result<R, CallError> {
        let started = Instant::now();
        let result = self.0.members[position].endpoint.read_slowly(method, params).await;
        if let Some(error) = result.as_ref().err().filter(|error| error.is_throttling()) {
            self.record_call(position, Some(error), started.elapsed());
        }
        result
    }

    pub(super) fn record_call(&self, position: usize, error: Option<&CallError>, took: Duration) {
        let member = &self.0.members[position];
        let change = member.health().record_call(member.endpoint.name(), error, took, Instant::now());
        self.report_state_change(position, change);
    }

    pub async fn read<P, R>(
        &self,
        method: &'static str,
        params: P,
        quality: impl Fn(&R) -> AnswerQuality,
    ) -> Result<R, CallError>
    where
        P: RpcSend + 'static,
        R: RpcRecv + 'static,
    {
        Ok(self.read_excluding(&[], method, params, quality).await?.1)
    }

    /// Returns the position of the endpoint too.
    pub(super) async fn read_excluding<P, R>(
        &self,
        excluded: &[usize],
        method: &'static str,
        params: P,
        quality: impl Fn(&R) -> AnswerQuality,
    ) -> Result<(usize, R), CallError>
    where
        P: RpcSend + 'static,
        R: RpcRecv + 'static,
    {
        let mut route = self.route();
        route.retain(|position| !excluded.contains(position));
        match *route.as_slice() {
            [] => Err(self.no_endpoint_error(method)),
            [only] => Ok((only, self.call(only, method, params, 1).await?)),
            _ => self.read_hedged(&route, method, params, quality).await,
        }
    }

    async fn read_hedged<P, R>(
        &self,
        route: &[usize],
        method: &'static str,
        params: P,
        quality: impl Fn(&R) -> AnswerQuality,
    ) -> Result<(usize, R), CallError>
    where
        P: RpcSend + 'static,
        R: RpcRecv + 'static,
    {
        let mut attempt = 0;
        let mut remaining = route.iter().copied();
        let mut start = |position: usize| -> PendingRead<R> {
            attempt += 1;
            let (pool, params, attempt) = (self.clone(), params.clone(), attempt);
            Box::pin(async move { (position, pool.call(position, method, params, attempt).await) })
        };
        let mut running = FuturesUnordered::new();
        let mut last = route[0];
        running.extend(remaining.next().map(&mut start));
        let hedge = tokio::time::sleep(self.0.members[last].health().hedge_after());
        tokio::pin!(hedge);
        let mut hedged = false;
        let mut first: Option<(usize, Result<R, CallError>)> = None;
        loop {
            let reason = tokio::select! {
                biased;
                Some((position, result)) = running.next() => match evaluate(result, &quality) {
                    ReadStep::Done(result) => {
                        finish_in_background(running);
                        return Ok((position, result?));
                    }
                    ReadStep::TryNext(reason, result) => {
                        // The first answer counts, unless a later endpoint was unreachable: it might have known more.
                        let is_unreachable = result.as_ref().err().is_some_and(CallError::is_unreachable);
                        if first.as_ref().is_none_or(|(_, first)| first.is_ok() && is_unreachable) {
                            first = Some((position, result));
                        }
                        reason
                    }
                },
                () = &mut hedge, if !hedged => {
                    hedged = true;
                    REASON_HEDGE
                }
            };
            // A suspect endpoint is used when others fail, but not for data they do not have.
            let may_answer = |next: &usize| reason != REASON_STALE || !self.is_suspect(*next);
            if let Some(next) = remaining.by_ref().find(may_answer) {
                self.record_failover(last, next, reason);
                last = next;
                running.push(start(next));
            } else if running.is_empty() {
                let (position, result) = first.unwrap_or_else(|| (last, Err(self.no_endpoint_error(method))));
                return Ok((position, result?));
            }
        }
    }

    fn is_suspect(&self, position: usize) -> bool {
        self.0.members[position].health().state() == EndpointState::Suspect
    }

    /// An endpoint without an answer by `deadline` has timed out.
    pub async fn fan_out<P, R>(
        &self,
        method: &'static str,
        params: P,
        max_endpoints: usize,
        deadline: Instant,
    ) -> Vec<(String, Result<R, CallError>)>
    where
        P: RpcSend + 'static,
        R: RpcRecv + 'static,
    {
        let calls = self.route().into_iter().take(max_endpoints).map(|position| {
            let (pool, params) = (self.clone(), params.clone());
            let mut call = async move { pool.call(position, method, params, 1).await }.boxed();
            async move {
                let name = self.endpoint_name(position).to_owned();
                let answer = timeout_at(deadline, &mut call).await.unwrap_or_else(|_| {
                    finish_in_background(FuturesUnordered::from_iter([call]));
                    Err(CallError::unavailable(&name, method, EndpointFault::Timeout))
                });
                (name, answer)
            }
        });
        futures_util::future::join_all(calls).await
    }

    pub(super) fn record_failover(&self, from: usize, to: usize, reason: &'static str) {
        metrics().inc_rpc_failovers(self.endpoint_name(from), self.endpoint_name(to), reason);
        // A hedged or stale read is not a failure.
        if ![REASON_HEDGE, REASON_STALE].contains(&reason) {
            spans::record_failover();
        }
    }

    pub(in crate::chain) fn endpoint_name(&self, position: usize) -> &str {
        self.0.members[position].endpoint.name()
    }
}

/// Abandoned calls still update their endpoint's health; every call ends by its timeout.
pub(super) fn finish_in_background<T: Send + 'static>(mut running: FuturesUnordered<BoxFuture<'static, T>>) {
    if !running.is_empty() {
        tokio::spawn(async move { while running.next().await.is_some() {} });
    }
}

fn evaluate<R>(result: Result<R, CallError>, quality: impl Fn(&R) -> AnswerQuality) -> ReadStep<R> {
    match result {
        Ok(answer) => match quality(&answer) {
            AnswerQuality::Accept => ReadStep::Done(Ok(answer)),
            AnswerQuality::TryNext => ReadStep::TryNext(REASON_STALE, Ok(answer)),
        },
        Err(error) => match error.reject_reason() {
            Some(RejectReason::UnknownBlock) => ReadStep::TryNext(REASON_STALE, Err(error)),
            // An unknown rejection may be specific to this endpoint, as its limits and methods are.
            Some(RejectReason::Other | RejectReason::Pruned | RejectReason::LogRange | RejectReason::UnknownMethod) => {
                ReadStep::TryNext("refused", Err(error))
            }
            Some(_) => ReadStep::Done(Err(error)),
            None => ReadStep::TryNext(error.outcome_label(), Err(error)),
        },
    }
}
