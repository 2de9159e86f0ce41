//! Asks several endpoints the same question where one endpoint's word is not enough.

use super::{
    EndpointPool,
    quorum_answers::{AnswerChange, AnswerRecord, QUORUM, QuorumAnswers, Silence},
};
use crate::telemetry::events;
use futures_util::future::join_all;
use tokio::time::Instant;

impl EndpointPool {
    /// Asks the two preferred endpoints, and the others where one of these is silent. `ask` returns the real answer of
    /// the endpoint at a position.
    pub async fn ask_quorum<A, F>(&self, ask: impl Fn(usize) -> F) -> QuorumAnswers<A>
    where
        F: Future<Output = Result<A, Silence>>,
    {
        let mut candidates = self.quorum_candidates();
        let mut answers = Vec::new();
        while answers.len() < QUORUM && !candidates.is_empty() {
            let asked: Vec<usize> = candidates.drain(..candidates.len().min(QUORUM - answers.len())).collect();
            let results = join_all(asked.iter().map(|position| ask(*position))).await;
            for (position, result) in asked.into_iter().zip(results) {
                match result {
                    Ok(answer) => {
                        self.record_change(position, AnswerRecord::record_answer);
                        answers.push((position, answer));
                    }
                    Err(silence) => self.record_silence(position, silence),
                }
            }
        }
        let mut awaited = 0;
        for (position, member) in self.0.members.iter().enumerate() {
            let (can_join_quorum, is_throttled) = {
                let health = member.health();
                (health.can_join_quorum(), health.is_throttled(Instant::now()))
            };
            if !can_join_quorum || answers.iter().any(|(by, _)| *by == position) {
                continue;
            }
            if is_throttled {
                self.record_silence(position, Silence::Throttled);
            }
            awaited += usize::from(member.quorum_record.lock().is_awaited());
        }
        QuorumAnswers { answers: answers.into_iter().map(|(_, answer)| answer).collect(), awaited }
    }

    /// In the order of use. While none is in sync, the preferred endpoint is believed.
    fn quorum_candidates(&self) -> Vec<usize> {
        let now = Instant::now();
        let route = self.route();
        let can_join_quorum = |position: &usize| self.0.members[*position].health().can_join_quorum();
        let mut candidates: Vec<usize> = route.iter().copied().filter(can_join_quorum).collect();
        if candidates.is_empty() {
            candidates = route.into_iter().take(1).collect();
        }
        candidates.retain(|position| self.0.members[*position].quorum_record.lock().may_ask(now));
        candidates
    }

    fn record_silence(&self, position: usize, silence: Silence) {
        self.record_change(position, |record| record.record_silence(silence, Instant::now()));
    }

    fn record_change(&self, position: usize, record: impl Fn(&mut AnswerRecord) -> Option<AnswerChange>) {
        let change = record(&mut self.0.members[position].quorum_record.lock());
        let name = self.endpoint_name(position);
        match change {
            Some(AnswerChange::FellSilent) if self.endpoint_count() > 1 => events::endpoint_silent(name),
            Some(AnswerChange::AnswersAgain) if self.endpoint_count() > 1 => events::endpoint_answers_again(name),
            Some(AnswerChange::FellSilent | AnswerChange::AnswersAgain) | None => {}
        }
    }
}
