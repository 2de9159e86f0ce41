//! Reads: from the first endpoint; from the next one too when it takes too long, fails, or answers from behind.

use super::Pool;
use crate::{
    chain::{CallError, EndpointState, Fault, Refusal},
    telemetry::{metrics, spans},
};
use alloy::rpc::json_rpc::{RpcRecv, RpcSend};
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Why the next endpoint is asked when the first does not have what is asked for.
const POOR: &str = "behind";
/// Why it is asked when the first takes long.
const HEDGE: &str = "hedge";

/// What an answer is worth.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Worth {
    /// It is taken.
    Good,
    /// Another endpoint may know more; taken when all were asked and none does.
    Poor,
}

enum Weighed<R> {
    /// To be returned.
    Final(Result<R, CallError>),
    /// The next endpoint is asked too, for this reason.
    Wanting(&'static str, Result<R, CallError>),
}

type Asked<R> = BoxFuture<'static, (usize, Result<R, CallError>)>;

impl Pool {
    /// Calls the endpoint at this position, on its account.
    pub(super) async fn call<P: RpcSend, R: RpcRecv>(
        &self,
        position: usize,
        method: &'static str,
        params: P,
        attempt: u32,
    ) -> Result<R, CallError> {
        let begun = Instant::now();
        let result = self.0.members[position].endpoint.read(method, params, attempt).await;
        self.account(position, result.as_ref().err(), begun.elapsed());
        result
    }

    /// Notes how a call ended.
    pub(super) fn account(&self, position: usize, error: Option<&CallError>, took: Duration) {
        let member = &self.0.members[position];
        let change = member.health().called(member.endpoint.name(), error, took, Instant::now());
        self.changed(position, change);
    }

    /// Reads something, from whichever endpoint answers well first; `worth` says what an answer is worth.
    ///
    /// # Errors
    /// When no endpoint answers, or one refuses.
    pub async fn read<P, R>(&self, method: &'static str, params: P, worth: impl Fn(&R) -> Worth) -> Result<R, CallError>
    where
        P: RpcSend + 'static,
        R: RpcRecv + 'static,
    {
        Ok(self.read_but(&[], method, params, worth).await?.1)
    }

    /// The same, from any endpoint but these; also says from which.
    pub(super) async fn read_but<P, R>(
        &self,
        but: &[usize],
        method: &'static str,
        params: P,
        worth: impl Fn(&R) -> Worth,
    ) -> Result<(usize, R), CallError>
    where
        P: RpcSend + 'static,
        R: RpcRecv + 'static,
    {
        let mut route = self.route();
        route.retain(|position| !but.contains(position));
        match *route.as_slice() {
            [] => Err(self.nobody(method)),
            [only] => Ok((only, self.call(only, method, params, 1).await?)),
            _ => self.read_of_many(&route, method, params, worth).await,
        }
    }

    async fn read_of_many<P, R>(
        &self,
        route: &[usize],
        method: &'static str,
        params: P,
        worth: impl Fn(&R) -> Worth,
    ) -> Result<(usize, R), CallError>
    where
        P: RpcSend + 'static,
        R: RpcRecv + 'static,
    {
        let mut attempt = 0;
        let mut waiting = route.iter().copied();
        let mut ask = |position: usize| -> Asked<R> {
            attempt += 1;
            let (pool, params, attempt) = (self.clone(), params.clone(), attempt);
            Box::pin(async move { (position, pool.call(position, method, params, attempt).await) })
        };
        let mut running = FuturesUnordered::new();
        let mut last = route[0];
        running.extend(waiting.next().map(&mut ask));
        let hedge = tokio::time::sleep(self.0.members[last].health().hedge_after());
        tokio::pin!(hedge);
        let mut hedged = false;
        let mut first: Option<(usize, Result<R, CallError>)> = None;
        loop {
            let reason = tokio::select! {
                biased;
                Some((position, result)) = running.next() => match weigh(result, &worth) {
                    Weighed::Final(result) => {
                        leave(running);
                        return Ok((position, result?));
                    }
                    Weighed::Wanting(reason, result) => {
                        // The first word stands for all; but one who did not answer might have known more.
                        let away = result.as_ref().err().is_some_and(CallError::is_away);
                        if first.as_ref().is_none_or(|(_, first)| first.is_ok() && away) {
                            first = Some((position, result));
                        }
                        reason
                    }
                },
                () = &mut hedge, if !hedged => {
                    hedged = true;
                    HEDGE
                }
            };
            // One under suspicion is asked when the others fail, and not for what they do not have.
            let asked = |next: &usize| reason != POOR || !self.is_suspect(*next);
            if let Some(next) = waiting.by_ref().find(asked) {
                self.moved_on(last, next, reason);
                last = next;
                running.push(ask(next));
            } else if running.is_empty() {
                let (position, result) = first.unwrap_or_else(|| (last, Err(self.nobody(method))));
                return Ok((position, result?));
            }
        }
    }

    fn is_suspect(&self, position: usize) -> bool {
        self.0.members[position].health().state() == EndpointState::Suspect
    }

    /// Asks each of the first `most` healthy endpoints the same, at once; when fewer than two are healthy, the one that comes first.
    pub async fn ask_healthy<P, R>(&self, method: &'static str, params: P, most: usize) -> Vec<Result<R, CallError>>
    where
        P: RpcSend,
        R: RpcRecv,
    {
        let healthy = |position: &usize| self.0.members[*position].health().state() == EndpointState::Healthy;
        let route = self.route();
        let mut asked: Vec<usize> = route.iter().copied().filter(healthy).take(most).collect();
        if asked.len() < 2 {
            asked = route.into_iter().take(1).collect();
        }
        let asked = asked.into_iter().map(|position| self.call(position, method, params.clone(), 1));
        futures_util::future::join_all(asked).await
    }

    /// Asks each of the first `most` usable endpoints the same, at once. Who has not answered `until` then counts as silent.
    pub async fn ask_each<P, R>(
        &self,
        method: &'static str,
        params: P,
        most: usize,
        until: Instant,
    ) -> Vec<(String, Result<R, CallError>)>
    where
        P: RpcSend + 'static,
        R: RpcRecv + 'static,
    {
        let asked = self.route().into_iter().take(most).map(|position| {
            let (pool, params) = (self.clone(), params.clone());
            let mut call = async move { pool.call(position, method, params, 1).await }.boxed();
            async move {
                let name = self.name(position).to_owned();
                let answer = timeout_at(until, &mut call).await.unwrap_or_else(|_| {
                    leave(FuturesUnordered::from_iter([call]));
                    Err(CallError::unavailable(&name, method, Fault::Timeout))
                });
                (name, answer)
            }
        });
        futures_util::future::join_all(asked).await
    }

    pub(super) fn moved_on(&self, from: usize, to: usize, reason: &'static str) {
        metrics().rpc_failover(self.name(from), self.name(to), reason);
        // A second question, to be quicker or to know more, is no failure.
        if ![HEDGE, POOR].contains(&reason) {
            spans::failed_over();
        }
    }

    pub(super) fn name(&self, position: usize) -> &str {
        self.0.members[position].endpoint.name()
    }
}

/// What was asked and is not waited for any more still tells how its endpoint does; every call ends with its timeout.
pub(super) fn leave<T: Send + 'static>(mut running: FuturesUnordered<BoxFuture<'static, T>>) {
    if !running.is_empty() {
        tokio::spawn(async move { while running.next().await.is_some() {} });
    }
}

/// Whether an answer is returned, or why the next endpoint is asked.
fn weigh<R>(result: Result<R, CallError>, worth: impl Fn(&R) -> Worth) -> Weighed<R> {
    match result {
        Ok(answer) => match worth(&answer) {
            Worth::Good => Weighed::Final(Ok(answer)),
            Worth::Poor => Weighed::Wanting(POOR, Ok(answer)),
        },
        Err(error) => match error.refusal() {
            Some(Refusal::UnknownBlock) => Weighed::Wanting(POOR, Err(error)),
            // In words that nobody knows: it may be this endpoint that cannot do it.
            Some(Refusal::Other) => Weighed::Wanting("refused", Err(error)),
            Some(_) => Weighed::Final(Err(error)),
            None => Weighed::Wanting(error.outcome(), Err(error)),
        },
    }
}
