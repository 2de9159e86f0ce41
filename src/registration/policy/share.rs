//! How callers share a limited number of places: waiting calls, streams, unfinished registrations.

/// A caller may hold this many while any place is free, so that a small limit is not divided.
const UNSHARED: u64 = 16;

/// Whether a caller that holds `held` places may take another one of the `free` ones: never more than it leaves to
/// others. One caller gets half of all places, and each further one half of what is free then.
pub fn may_take(held: u64, free: u64) -> bool {
    free > 0 && (held < UNSHARED || held < free)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_holds_no_more_than_it_leaves_to_others() {
        for (held, free, expected) in [
            (0, 0, false),
            (0, 1, true),
            (15, 1, true),
            (16, 1, false),
            (16, 16, false),
            (16, 17, true),
            (4_999, 5_001, true),
            (5_000, 5_000, false),
            (1_000_000, 0, false),
        ] {
            assert_eq!(may_take(held, free), expected, "{held} {free}");
        }
    }

    #[test]
    fn a_newcomer_finds_room_beside_greedy_callers() {
        for (callers, left) in [(1, 5_000), (2, 2_500), (3, 1_250), (6, 156)] {
            let mut free = 10_000;
            for _ in 0..callers {
                let mut held = 0;
                while may_take(held, free) {
                    held += 1;
                    free -= 1;
                }
            }
            assert_eq!(free, left, "beside {callers}");
            assert!(may_take(0, free));
        }
    }
}
