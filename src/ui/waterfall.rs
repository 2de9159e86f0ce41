//! The phases of a registration on one scale.

use super::format;
use crate::registration::{Registration, State, Timestamp};

/// Of the view box; the page stretches it.
const WIDTH: f64 = 1000.0;
/// So that a short phase can be seen.
const MIN_WIDTH: f64 = 4.0;

#[derive(Clone, PartialEq, Debug)]
pub(super) struct Waterfall {
    pub(super) phases: Vec<Phase>,
    /// Where the block is.
    pub(super) included: Option<Mark>,
    pub(super) total: String,
}

#[derive(Clone, PartialEq, Debug)]
pub(super) struct Phase {
    pub(super) name: &'static str,
    pub(super) x: String,
    pub(super) width: String,
    pub(super) duration: String,
    /// `done`, `open` or `failed`: the class in the style sheet.
    pub(super) class: &'static str,
}

#[derive(Clone, PartialEq, Debug)]
pub(super) struct Mark {
    pub(super) x: String,
    pub(super) after: String,
}

impl Waterfall {
    pub(super) fn new(registration: &Registration, now: Timestamp) -> Self {
        let times = &registration.times;
        let own = registration.transaction.as_ref().and_then(|transaction| transaction.own.as_ref());
        let (prepared, signed) = (own.map(|own| own.prepared_at), own.map(|own| own.signed_at));
        let ended = times.failed.filter(|_| registration.state == State::Failed);
        let confirmed = times.confirmed.filter(|_| registration.state == State::Confirmed);
        // A phase whose end is not known ends where a later one begins: a pair that was found on chain was never
        // prepared.
        let sent = times.submitted.or(confirmed);
        let steps = [
            ("queue", Some(times.created), prepared.or(sent)),
            ("prepare", prepared, signed.or(sent)),
            ("send", signed, sent),
            ("wait", times.submitted, confirmed),
        ];
        let last = confirmed.or(ended).unwrap_or(now).max(times.created);
        let scale = Scale { start: times.created, micros: last.since(times.created).as_micros().max(1) as f64 };
        let phase = |(name, start, end): (&'static str, Option<Timestamp>, Option<Timestamp>)| {
            let start = start?;
            let class = match (end, ended) {
                (Some(_), _) => "done",
                (None, Some(_)) => "failed",
                (None, None) => "open",
            };
            let end = end.unwrap_or(last);
            let x = scale.x(start).min(WIDTH - MIN_WIDTH);
            let width = (scale.x(end) - x).max(MIN_WIDTH);
            let more = if class == "open" { " so far" } else { "" };
            Some(Phase {
                name,
                x: format!("{x:.1}"),
                width: format!("{width:.1}"),
                duration: format!("{}{more}", format::duration(end.since(start))),
                class,
            })
        };
        let included = times.included.map(|at| Mark {
            x: format!("{:.1}", scale.x(at).clamp(MIN_WIDTH, WIDTH - MIN_WIDTH)),
            after: format::duration(at.since(times.created)),
        });
        Self {
            phases: steps.into_iter().filter_map(phase).collect(),
            included,
            total: format::duration(last.since(times.created)),
        }
    }
}

struct Scale {
    start: Timestamp,
    micros: f64,
}

impl Scale {
    fn x(&self, at: Timestamp) -> f64 {
        (at.since(self.start).as_micros() as f64 / self.micros).min(1.0) * WIDTH
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registration::{
        DocumentHash, NewRegistration, OwnTransaction, Pair, RegistrationId, StateTimes, TraceContext, TraceId,
        Transaction,
    };
    use alloy::primitives::{Address, B256};
    use std::sync::Arc;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_micros(1_700_000_000_000_000 + millis * 1_000)
    }

    /// Confirmed after two seconds.
    fn registration() -> Registration {
        let trace_id = TraceId::from_bytes([1; 16]).unwrap();
        let trace =
            TraceContext { trace_id, parent: None, sampled: None, tracestate: String::new(), baggage: String::new() };
        let own = OwnTransaction {
            nonce: 0,
            batch_size: 1,
            attempts: 1,
            prepared_at: at(100),
            signed_at: at(200),
            cost: None,
        };
        Registration {
            id: RegistrationId::from_bytes([7; 16]),
            request: NewRegistration {
                pair: Pair { document_hash: DocumentHash::new([1; 32]).unwrap(), case_id: "case-1".parse().unwrap() },
                submitted_as: String::new(),
                user_id: None,
                caller: None,
                trace: Arc::new(trace),
            },
            state: State::Confirmed,
            finality: None,
            revision: 1,
            blocked_reason: None,
            transaction: Some(Transaction { hash: B256::ZERO, from: Address::ZERO, block: None, own: Some(own) }),
            failure: None,
            diagnosis: None,
            times: StateTimes {
                created: at(0),
                queued: at(0),
                delayed: None,
                submitted: Some(at(400)),
                included: Some(at(1_200)),
                confirmed: Some(at(2_000)),
                failed: None,
                timed_out: None,
                updated: at(2_000),
            },
        }
    }

    fn bars(waterfall: &Waterfall) -> Vec<(&'static str, &str, &str, &'static str)> {
        waterfall.phases.iter().map(|phase| (phase.name, phase.x.as_str(), phase.width.as_str(), phase.class)).collect()
    }

    #[test]
    fn the_phases_follow_each_other_on_one_scale() {
        let waterfall = Waterfall::new(&registration(), at(9_000));
        let expected = [
            ("queue", "0.0", "50.0", "done"),
            ("prepare", "50.0", "50.0", "done"),
            ("send", "100.0", "100.0", "done"),
            ("wait", "200.0", "800.0", "done"),
        ];
        assert_eq!(bars(&waterfall), expected);
        assert_eq!(waterfall.total, "2.00 s");
        assert_eq!(waterfall.included, Some(Mark { x: "600.0".to_owned(), after: "1.20 s".to_owned() }));
    }

    #[test]
    fn what_is_not_over_is_open_and_what_failed_ends_there() {
        let mut waiting = registration();
        waiting.state = State::Submitted;
        (waiting.times.included, waiting.times.confirmed) = (None, None);
        let open = Waterfall::new(&waiting, at(4_000));
        assert_eq!(bars(&open).last(), Some(&("wait", "100.0", "900.0", "open")));
        assert_eq!(open.phases[3].duration, "3.60 s so far");

        waiting.state = State::Failed;
        waiting.times.failed = Some(at(1_000));
        let failed = Waterfall::new(&waiting, at(4_000));
        assert_eq!(bars(&failed).last(), Some(&("wait", "400.0", "600.0", "failed")));
    }

    #[test]
    fn a_pair_found_on_chain_has_only_a_queue_phase_and_any_phase_is_visible() {
        let mut found = registration();
        found.transaction = None;
        (found.times.submitted, found.times.included) = (None, None);
        assert_eq!(bars(&Waterfall::new(&found, at(9_000))), [("queue", "0.0", "1000.0", "done")]);

        let mut short = registration();
        short.times.confirmed = Some(at(400));
        let waterfall = Waterfall::new(&short, at(9_000));
        assert_eq!(bars(&waterfall).last(), Some(&("wait", "996.0", "4.0", "done")));
    }
}
