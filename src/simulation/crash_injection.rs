//! Ends the service at any of its awaits, as a crashed process ends: everything that it holds is dropped at once. Or
//! freezes it there, as SIGSTOP or a suspended machine does, to resume later as if no time had passed.

use crate::store::Store;
use futures_util::future::{BoxFuture, LocalBoxFuture};
use parking_lot::{Mutex, MutexGuard};
use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, Waker},
};

/// Counts the polls of all tasks of one process, and interrupts them after a given number.
#[derive(Debug, Default)]
pub(super) struct ProcessLife {
    state: Mutex<LifeState>,
    /// The database, once it is open.
    store: OnceLock<Store>,
}

#[derive(Debug, Default)]
struct LifeState {
    polls: u64,
    /// What happens after this many more polls.
    interruption: Option<(u64, Interruption)>,
    /// The tasks to poll again after a freeze.
    wakers: Vec<Waker>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Interruption {
    Crash,
    Freeze,
    Frozen,
}

impl ProcessLife {
    fn state(&self) -> MutexGuard<'_, LifeState> {
        self.state.lock()
    }

    pub(super) fn set_store(&self, store: Store) {
        // A process opens its database once.
        let _ = self.store.set(store);
    }

    pub(super) fn store(&self) -> Option<&Store> {
        self.store.get()
    }

    /// 0 crashes at once.
    pub(super) fn crash_after(&self, polls: u64) {
        self.set_interruption(Some((polls, Interruption::Crash)));
    }

    /// Freezes after this many more polls, but not within a database transaction: PostgreSQL would end that
    /// (`idle_in_transaction_session_timeout`), an SQLite file cannot.
    pub(super) fn freeze_after(&self, polls: u64) {
        if !self.is_crashed() {
            self.set_interruption(Some((polls, Interruption::Freeze)));
        }
    }

    /// Cancels a pending interruption, and ends a freeze.
    pub(super) fn resume(&self) {
        if !self.is_crashed() {
            self.set_interruption(None);
        }
    }

    fn set_interruption(&self, end: Option<(u64, Interruption)>) {
        let mut state = self.state();
        state.interruption = end;
        state.wakers.drain(..).for_each(Waker::wake);
    }

    pub(super) fn polls(&self) -> u64 {
        self.state().polls
    }

    pub(super) fn is_crashed(&self) -> bool {
        self.state().interruption == Some((0, Interruption::Crash))
    }

    pub(super) fn is_frozen(&self) -> bool {
        self.state().interruption == Some((0, Interruption::Frozen))
    }

    /// Whether no task may be polled now. The calling task is woken when it may be polled again.
    fn is_suspended(&self, context: &Context<'_>) -> bool {
        let writes = self.store.get().is_some_and(Store::is_writing);
        let mut state = self.state();
        if state.interruption == Some((0, Interruption::Freeze)) && !writes {
            state.interruption = Some((0, Interruption::Frozen));
        }
        let suspended = matches!(state.interruption, Some((0, Interruption::Crash | Interruption::Frozen)));
        if suspended {
            state.wakers.push(context.waker().clone());
        }
        suspended
    }

    fn count_poll(&self) {
        let mut state = self.state();
        state.polls += 1;
        state.interruption = state.interruption.map(|(left, end)| (left.saturating_sub(1), end));
    }
}

/// A task that is polled only while its process runs.
pub(super) struct CrashableTask {
    life: Arc<ProcessLife>,
    work: BoxFuture<'static, ()>,
}

impl CrashableTask {
    pub(super) fn new(life: &Arc<ProcessLife>, work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self { life: life.clone(), work: Box::pin(work) }
    }
}

impl Future for CrashableTask {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.life.is_suspended(context) {
            return Poll::Pending;
        }
        let polled = self.work.as_mut().poll(context);
        self.life.count_poll();
        polled
    }
}

/// The whole service: dropped, with all that it holds, as soon as its process crashes.
pub(super) struct CrashableService {
    life: Arc<ProcessLife>,
    service: Option<LocalBoxFuture<'static, Result<(), String>>>,
}

impl CrashableService {
    pub(super) fn new(life: &Arc<ProcessLife>, service: impl Future<Output = Result<(), String>> + 'static) -> Self {
        Self { life: life.clone(), service: Some(Box::pin(service)) }
    }
}

impl Future for CrashableService {
    type Output = Result<(), String>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Some(service) = &mut this.service
            && !this.life.is_suspended(context)
        {
            if let Poll::Ready(ended) = service.as_mut().poll(context) {
                return Poll::Ready(ended);
            }
            this.life.count_poll();
        }
        if this.life.is_crashed() {
            this.service = None;
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    }
}
