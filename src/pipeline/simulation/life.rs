//! A service that dies after any of its awaits, as a process does: everything that it holds is dropped at once.

use futures_util::future::{BoxFuture, LocalBoxFuture};
use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

/// Counts every time that a part of the service goes on, and how often it still may.
#[derive(Debug)]
pub(super) struct Life {
    polls: AtomicU64,
    left: AtomicU64,
}

impl Life {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { polls: AtomicU64::new(0), left: AtomicU64::new(u64::MAX) })
    }

    /// It dies after this many more polls; none at all is at once.
    pub(super) fn ends_after(&self, polls: u64) {
        self.left.store(polls, Ordering::Relaxed);
    }

    /// How often its parts have gone on.
    pub(super) fn polls(&self) -> u64 {
        self.polls.load(Ordering::Relaxed)
    }

    pub(super) fn is_over(&self) -> bool {
        self.left.load(Ordering::Relaxed) == 0
    }

    fn spend(&self) {
        self.polls.fetch_add(1, Ordering::Relaxed);
        let _ = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| match left {
            u64::MAX => None,
            left => Some(left.saturating_sub(1)),
        });
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
        if self.life.is_over() {
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
            && !mortal.life.is_over()
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
