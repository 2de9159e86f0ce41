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
pub(super) struct Life {
    course: Mutex<Course>,
    /// The database, once it is open.
    store: OnceLock<Store>,
}

#[derive(Debug, Default)]
struct Course {
    polls: u64,
    /// What comes after so many more polls; `None` is for ever.
    end: Option<(u64, End)>,
    /// The parts that are to go on when it wakes.
    sleepers: Vec<Waker>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Dies,
    Freezes,
    /// Until it is woken.
    Frozen,
}

impl Life {
    fn course(&self) -> MutexGuard<'_, Course> {
        self.course.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This is its database.
    pub(super) fn uses(&self, store: Store) {
        // It is opened once in a life.
        let _ = self.store.set(store);
    }

    pub(super) fn store(&self) -> Option<&Store> {
        self.store.get()
    }

    /// It dies after this many more polls; none at all is at once.
    pub(super) fn dies_after(&self, polls: u64) {
        self.ends(Some((polls, End::Dies)));
    }

    /// It freezes after this many more polls, and not while it writes: the database would end that for it
    /// (`idle_in_transaction_session_timeout`), and a file cannot.
    pub(super) fn freezes_after(&self, polls: u64) {
        if !self.is_over() {
            self.ends(Some((polls, End::Freezes)));
        }
    }

    /// It lives on, whatever was said, unless it is dead.
    pub(super) fn goes_on(&self) {
        if !self.is_over() {
            self.ends(None);
        }
    }

    fn ends(&self, end: Option<(u64, End)>) {
        let mut course = self.course();
        course.end = end;
        course.sleepers.drain(..).for_each(Waker::wake);
    }

    /// How often its parts have gone on.
    pub(super) fn polls(&self) -> u64 {
        self.course().polls
    }

    pub(super) fn is_over(&self) -> bool {
        self.course().end == Some((0, End::Dies))
    }

    pub(super) fn is_frozen(&self) -> bool {
        self.course().end == Some((0, End::Frozen))
    }

    /// Whether nothing of it may go on just now; whoever asks is woken when it may.
    fn rests(&self, context: &Context<'_>) -> bool {
        let writes = self.store.get().is_some_and(Store::is_writing);
        let mut course = self.course();
        if course.end == Some((0, End::Freezes)) && !writes {
            course.end = Some((0, End::Frozen));
        }
        let rests = matches!(course.end, Some((0, End::Dies | End::Frozen)));
        if rests {
            course.sleepers.push(context.waker().clone());
        }
        rests
    }

    fn spend(&self) {
        let mut course = self.course();
        course.polls += 1;
        course.end = course.end.map(|(left, end)| (left.saturating_sub(1), end));
    }
}

/// A part of the service, which goes on only as long as the service lives.
pub(super) struct Part {
    life: Arc<Life>,
    work: BoxFuture<'static, ()>,
}

impl Part {
    pub(super) fn new(life: &Arc<Life>, work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self { life: life.clone(), work: Box::pin(work) }
    }
}

impl Future for Part {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.life.rests(context) {
            return Poll::Pending;
        }
        let polled = self.work.as_mut().poll(context);
        self.life.spend();
        polled
    }
}

/// The service whole: gone, with all that it held, as soon as its life is over.
pub(super) struct Mortal {
    life: Arc<Life>,
    service: Option<LocalBoxFuture<'static, Result<(), String>>>,
}

impl Mortal {
    pub(super) fn new(life: &Arc<Life>, service: impl Future<Output = Result<(), String>> + 'static) -> Self {
        Self { life: life.clone(), service: Some(Box::pin(service)) }
    }
}

impl Future for Mortal {
    type Output = Result<(), String>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mortal = &mut *self;
        if let Some(service) = &mut mortal.service
            && !mortal.life.rests(context)
        {
            if let Poll::Ready(ended) = service.as_mut().poll(context) {
                return Poll::Ready(ended);
            }
            mortal.life.spend();
        }
        if mortal.life.is_over() {
            mortal.service = None;
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    }
}
