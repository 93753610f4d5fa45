//! How many segments are fetched ahead of a server that replays. Pure.

/// Grows when the server has had to wait, up to a limit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Depth {
    /// The number of the segment that was asked for last.
    last: Option<(u32, u64)>,
    depth: u64,
}

impl Depth {
    pub(crate) fn new() -> Self {
        Depth { last: None, depth: 0 }
    }

    /// A segment was asked for, by timeline and number; `was_ready` says whether it had been fetched by then. Answers how many of
    /// the following ones to fetch.
    pub(crate) fn asked(&mut self, timeline: u32, number: u64, was_ready: bool, limit: u64) -> u64 {
        let follows = self
            .last
            .is_some_and(|(of, last)| of == timeline && number == last + 1);
        let again = self.last == Some((timeline, number));
        self.last = Some((timeline, number));
        self.depth = match (follows, was_ready) {
            _ if again => self.depth,
            // A server asks for single segments when it starts; the second one in a row shows that it replays.
            (false, _) => 0,
            (true, true) => self.depth,
            (true, false) => (self.depth * 2).max(2),
        }
        .min(limit);
        self.depth
    }

    /// The end of the archive was met.
    pub(crate) fn ended(&mut self) {
        self.depth = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_while_the_server_waits_and_stays_when_it_does_not() {
        let mut depth = Depth::new();
        assert_eq!(depth.asked(1, 5, false, 8), 0);
        assert_eq!(depth.asked(1, 6, false, 8), 2);
        assert_eq!(depth.asked(1, 7, true, 8), 2);
        assert_eq!(depth.asked(1, 8, false, 8), 4);
        assert_eq!(depth.asked(1, 8, true, 8), 4);
        assert_eq!(depth.asked(1, 9, false, 8), 8);
        assert_eq!(depth.asked(1, 10, false, 8), 8);
        assert_eq!(depth.asked(1, 11, true, 3), 3);
    }

    #[test]
    fn another_place_begins_again() {
        let mut depth = Depth::new();
        depth.asked(1, 5, false, 8);
        depth.asked(1, 6, false, 8);
        assert_eq!(depth.asked(2, 7, false, 8), 0);
        assert_eq!(depth.asked(2, 8, false, 1), 1);
        depth.ended();
        assert_eq!(depth.asked(2, 9, true, 8), 0);
    }
}
