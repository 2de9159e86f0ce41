//! A service that dies after any of its awaits, as a process does, and everything that it holds is dropped at once; or that freezes
//! there, as a process does that is stopped or whose machine is, and later goes on as if no time had passed.

use crate::store::Store;
use futures_util::future::{BoxFuture, LocalBoxFuture};
use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    task::{Context, Poll, Waker},
};

/// Counts every time that a part of the service goes on, and how often it still may.
#[derive(Debug, Default)]
pub(super) struct ProcessLife {
    state: Mutex<LifeState>,
    /// The database, once it is open.
    store: OnceLock<Store>,
}

#[derive(Debug, Default)]
struct LifeState {
    polls: u64,
    /// What comes after so many more polls; `None` is for ever.
    interruption: Option<(u64, Interruption)>,
    /// The parts that are to go on when it wakes.
    wakers: Vec<Waker>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Interruption {
    Crash,
    Freeze,
    /// Until it is woken.
    Frozen,
}

impl ProcessLife {
    fn state(&self) -> MutexGuard<'_, LifeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This is its database.
    pub(super) fn set_store(&self, store: Store) {
        // It is opened once in a life.
        let _ = self.store.set(store);
    }

    pub(super) fn store(&self) -> Option<&Store> {
        self.store.get()
    }

    /// It dies after this many more polls; none at all is at once.
    pub(super) fn crash_after(&self, polls: u64) {
        self.set_interruption(Some((polls, Interruption::Crash)));
    }

    /// It freezes after this many more polls, and not while it writes: the database would end that for it
    /// (`idle_in_transaction_session_timeout`), and a file cannot.
    pub(super) fn freeze_after(&self, polls: u64) {
        if !self.is_crashed() {
            self.set_interruption(Some((polls, Interruption::Freeze)));
        }
    }

    /// It lives on, whatever was said, unless it is dead.
    pub(super) fn resume(&self) {
        if !self.is_crashed() {
            self.set_interruption(None);
        }
    }

    fn set_interruption(&self, end: Option<(u64, Interruption)>) {
        let mut course = self.state();
        course.interruption = end;
        course.wakers.drain(..).for_each(Waker::wake);
    }

    /// How often its parts have gone on.
    pub(super) fn polls(&self) -> u64 {
        self.state().polls
    }

    pub(super) fn is_crashed(&self) -> bool {
        self.state().interruption == Some((0, Interruption::Crash))
    }

    pub(super) fn is_frozen(&self) -> bool {
        self.state().interruption == Some((0, Interruption::Frozen))
    }

    /// Whether nothing of it may go on just now; whoever asks is woken when it may.
    fn is_suspended(&self, context: &Context<'_>) -> bool {
        let writes = self.store.get().is_some_and(Store::is_writing);
        let mut course = self.state();
        if course.interruption == Some((0, Interruption::Freeze)) && !writes {
            course.interruption = Some((0, Interruption::Frozen));
        }
        let rests = matches!(course.interruption, Some((0, Interruption::Crash | Interruption::Frozen)));
        if rests {
            course.wakers.push(context.waker().clone());
        }
        rests
    }

    fn count_poll(&self) {
        let mut course = self.state();
        course.polls += 1;
        course.interruption = course.interruption.map(|(left, end)| (left.saturating_sub(1), end));
    }
}

/// A part of the service, which goes on only as long as the service lives.
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

/// The service whole: gone, with all that it held, as soon as its life is over.
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
        let mortal = &mut *self;
        if let Some(service) = &mut mortal.service
            && !mortal.life.is_suspended(context)
        {
            if let Poll::Ready(ended) = service.as_mut().poll(context) {
                return Poll::Ready(ended);
            }
            mortal.life.count_poll();
        }
        if mortal.life.is_crashed() {
            mortal.service = None;
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    }
}
