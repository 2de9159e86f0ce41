//! The order in which endpoints are used.

use crate::chain::EndpointState;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Candidate {
    pub state: EndpointState,
    pub throttled: bool,
}

/// Positions in the order of use: healthy endpoints by preference (so the primary is sticky), then degraded ones, then
/// suspect ones. Throttled endpoints are left out.
pub fn route(candidates: impl IntoIterator<Item = Candidate>) -> Vec<usize> {
    let mut ranked: Vec<(u8, usize)> = candidates
        .into_iter()
        .enumerate()
        .filter(|(_, candidate)| !candidate.throttled)
        .filter_map(|(position, candidate)| Some((rank(candidate.state)?, position)))
        .collect();
    ranked.sort_unstable();
    ranked.into_iter().map(|(_, position)| position).collect()
}

fn rank(state: EndpointState) -> Option<u8> {
    match state {
        EndpointState::Healthy => Some(0),
        EndpointState::Degraded => Some(1),
        EndpointState::Suspect => Some(2),
        EndpointState::Throttled | EndpointState::Down | EndpointState::Quarantined => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use EndpointState::*;

    #[test]
    fn healthy_endpoints_come_first_then_degraded_then_suspect() {
        let all =
            |states: &[EndpointState]| route(states.iter().map(|state| Candidate { state: *state, throttled: false }));
        for (states, expected) in [
            (vec![Healthy, Healthy, Healthy], vec![0, 1, 2]),
            (vec![Suspect, Healthy, Healthy], vec![1, 2, 0]),
            (vec![Degraded, Suspect, Healthy], vec![2, 0, 1]),
            (vec![Down, Healthy], vec![1]),
            (vec![Quarantined, Suspect], vec![1]),
            (vec![Suspect], vec![0]),
            (vec![Down, Quarantined], vec![]),
            (vec![], vec![]),
        ] {
            assert_eq!(all(&states), expected, "{states:?}");
        }
        let throttled = Candidate { state: Healthy, throttled: true };
        assert_eq!(route([throttled, Candidate { state: Degraded, throttled: false }]), [1]);
        assert_eq!(route([throttled]), [0; 0], "throttled endpoints are not used at all");
    }
}
