//! Filters and orders of lists.

use super::*;
use crate::registration::{DocumentHash, UserId};

struct Listed {
    fixture: StoreFixture,
    ids: Vec<RegistrationId>,
    created: Vec<Timestamp>,
}

impl Listed {
    /// Registrations 0 to 5, a second apart: of two users, two callers and two cases.
    async fn new() -> Self {
        let fixture = StoreFixture::new(100).await;
        let (mut ids, mut created) = (Vec::new(), Vec::new());
        for number in 0..6_u8 {
            crate::clock::simulated::follow_tokio(at(1_900_000_000 + u64::from(number)));
            let even = number % 2 == 0;
            let new = NewRegistration {
                user_id: UserId::parse_optional(if even { "even" } else { "odd" }).unwrap(),
                caller: if number < 3 { "low" } else { "high" }.parse().ok(),
                ..request(number + 1, if number < 4 { "a" } else { "b" })
            };
            let accepted = fixture.accept_handle.accept(new).await.unwrap().registration;
            ids.push(accepted.id);
            created.push(accepted.times.created);
        }
        Self { fixture, ids, created }
    }

    /// The numbers of all registrations that match, read in pages of this size.
    async fn numbers(&self, filter: &Filter, size: u32) -> Vec<usize> {
        let (mut numbers, mut after) = (Vec::new(), None);
        loop {
            let page = self.fixture.store.list(filter, after, size).await.unwrap();
            assert!(page.len() <= size as usize);
            let number = |id| self.ids.iter().position(|known| *known == id).unwrap();
            numbers.extend(page.iter().map(|registration| number(registration.id)));
            match page.last() {
                Some(last) if page.len() == size as usize => after = Some(last.id),
                _ => return numbers,
            }
        }
    }

    /// In both orders, and in pages of every size.
    async fn assert_newest_first(&self, filter: Filter, expected: &[usize]) {
        for size in [1, 2, 3, 10] {
            assert_eq!(self.numbers(&filter, size).await, expected, "{filter:?} in pages of {size}");
            let oldest_first = Filter { order: Order::OldestFirst, ..filter.clone() };
            let reversed: Vec<_> = expected.iter().rev().copied().collect();
            assert_eq!(self.numbers(&oldest_first, size).await, reversed, "{oldest_first:?} in pages of {size}");
        }
    }
}

fn user(name: &str) -> Option<UserId> {
    UserId::parse_optional(name).unwrap()
}

#[tokio::test]
async fn users_callers_and_times_restrict_a_list_alone_and_together() {
    let listed = Listed::new().await;
    let at = |number: usize| Some(listed.created[number]);
    let after = |number: usize| Some(Timestamp::from_micros(listed.created[number].micros() + 1));
    let all = Filter::default();
    listed.assert_newest_first(all.clone(), &[5, 4, 3, 2, 1, 0]).await;
    listed.assert_newest_first(Filter { user_id: user("even"), ..all.clone() }, &[4, 2, 0]).await;
    listed.assert_newest_first(Filter { user_id: user("none"), ..all.clone() }, &[]).await;
    listed.assert_newest_first(Filter { caller: "high".parse().ok(), ..all.clone() }, &[5, 4, 3]).await;
    listed.assert_newest_first(Filter { created_from: at(3), ..all.clone() }, &[5, 4, 3]).await;
    listed.assert_newest_first(Filter { created_from: after(3), ..all.clone() }, &[5, 4]).await;
    listed.assert_newest_first(Filter { created_before: at(3), ..all.clone() }, &[2, 1, 0]).await;
    listed.assert_newest_first(Filter { created_before: after(3), ..all.clone() }, &[3, 2, 1, 0]).await;
    let between = Filter { created_from: at(1), created_before: after(4), ..all.clone() };
    listed.assert_newest_first(between.clone(), &[4, 3, 2, 1]).await;
    let narrow = Filter { user_id: user("even"), caller: "high".parse().ok(), ..between.clone() };
    listed.assert_newest_first(narrow, &[4]).await;
    let in_case = Filter { case_id: "a".parse().ok(), user_id: user("odd"), ..between.clone() };
    listed.assert_newest_first(in_case, &[3, 1]).await;
    let document = DocumentHash::new([4; 32]).ok();
    let of_document = Filter { document_hash: document, user_id: user("odd"), ..between.clone() };
    listed.assert_newest_first(of_document.clone(), &[3]).await;
    listed.assert_newest_first(Filter { user_id: user("even"), ..of_document }, &[]).await;
}

#[tokio::test]
async fn states_blocked_reasons_and_transactions_restrict_a_list_alone_and_together() {
    let listed = Listed::new().await;
    let Listed { fixture: StoreFixture { store, .. }, ids, .. } = &listed;
    let all = Filter::default();
    store.set_blocked_queued(&ids[0..2], BlockedReason::FeeCap, at(0), at(1)).await.unwrap();
    store.set_blocked_queued(&ids[2..3], BlockedReason::NoEndpoint, at(0), at(1)).await.unwrap();
    let id = listed.fixture.insert_signed(0, &ids[3..5]).await;
    let failure = Failure { reason: FailureReason::TransactionReverted, message: String::new() };
    store.mark_failed(ids[5], &failure, at(2)).await.unwrap();
    let blocked = |reasons: &[BlockedReason]| Filter { blocked_reasons: reasons.to_vec(), ..all.clone() };
    listed.assert_newest_first(blocked(&[BlockedReason::FeeCap]), &[1, 0]).await;
    listed.assert_newest_first(blocked(&[BlockedReason::NoEndpoint, BlockedReason::FeeCap]), &[2, 1, 0]).await;
    listed.assert_newest_first(blocked(&[BlockedReason::DailyBudget]), &[]).await;
    let even = Filter { user_id: user("even"), ..blocked(&[BlockedReason::NoEndpoint, BlockedReason::FeeCap]) };
    listed.assert_newest_first(even.clone(), &[2, 0]).await;
    listed.assert_newest_first(Filter { states: vec![State::Signed], ..even.clone() }, &[]).await;
    listed.assert_newest_first(Filter { states: vec![State::Queued], ..even }, &[2, 0]).await;

    let states = |states: &[State]| Filter { states: states.to_vec(), ..all.clone() };
    let open = states(&[State::Failed, State::Queued, State::Signed]);
    listed.assert_newest_first(Filter { user_id: user("odd"), ..open.clone() }, &[5, 3, 1]).await;
    listed.assert_newest_first(Filter { caller: "high".parse().ok(), ..open }, &[5, 4, 3]).await;
    listed.assert_newest_first(Filter { user_id: user("odd"), ..states(&[State::Confirmed]) }, &[]).await;

    let sent = transaction(0).attempt.hash;
    let carried = Filter { transaction_hash: Some(sent), ..all.clone() };
    listed.assert_newest_first(carried.clone(), &[4, 3]).await;
    listed.assert_newest_first(Filter { case_id: "b".parse().ok(), ..carried.clone() }, &[4]).await;
    listed.assert_newest_first(Filter { user_id: user("odd"), ..carried.clone() }, &[3]).await;
    listed.assert_newest_first(Filter { states: vec![State::Queued], ..carried.clone() }, &[]).await;
    let unknown = Filter { transaction_hash: Some(B256::repeat_byte(9)), ..all.clone() };
    listed.assert_newest_first(unknown, &[]).await;
    // A replacement has another hash, and both find what the transaction carries.
    store.insert_replacement(id, &replacement(2)).await.unwrap();
    let replaced = Filter { transaction_hash: Some(replacement(2).attempt.hash), ..all.clone() };
    listed.assert_newest_first(replaced, &[4, 3]).await;
    listed.assert_newest_first(carried, &[4, 3]).await;
}
