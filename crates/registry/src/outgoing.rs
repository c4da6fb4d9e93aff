//! The bytes of answers that are on their way to clients.
//!
//! A list is shared by all who are answered with it, so many clients cost no more than one. A client that takes its answer slowly keeps the list as it was
//! then, and many such clients could keep as many old lists.
//!
//! What always holds here: bytes that several answers share count once; beyond a limit the answers are given up that have been on their way for the longest,
//! never the newest; small answers do not count, the number of connections bounds them.

use std::collections::{BTreeMap, HashMap};

use crate::encoding::Body;

/// An answer on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AnswerId(u64);

/// Answers that are on their way.
#[derive(Debug)]
pub struct Outgoing {
    most_bytes: usize,
    next: u64,
    /// Oldest first, with what tells their pieces apart.
    answers: BTreeMap<AnswerId, Vec<usize>>,
    pieces: HashMap<usize, Piece>,
    bytes: usize,
    given_up: u64,
}

#[derive(Debug)]
struct Piece {
    bytes: usize,
    /// Answers that have it.
    answers: usize,
}

impl Outgoing {
    /// An answer up to this size does not count.
    pub const FREE_BYTES: usize = 4096;

    pub fn new(most_bytes: usize) -> Outgoing {
        Outgoing { most_bytes, next: 0, answers: BTreeMap::new(), pieces: HashMap::new(), bytes: 0, given_up: 0 }
    }

    /// An answer begins, which is to be ended with [`Outgoing::end`]. With the answers that are given up for it: they are ended already.
    pub fn begin(&mut self, body: &Body) -> (AnswerId, Vec<AnswerId>) {
        let id = AnswerId(self.next);
        self.next += 1;
        // As long as an answer has a piece, nothing else is at its address.
        let addresses: Vec<usize> = body.pieces.iter().map(|piece| piece.as_ptr() as usize).collect();
        for (address, piece) in addresses.iter().zip(body.pieces.iter()) {
            let held = self.pieces.entry(*address).or_insert(Piece { bytes: 0, answers: 0 });
            held.answers += 1;
            self.bytes += piece.len().saturating_sub(held.bytes);
            held.bytes = held.bytes.max(piece.len());
        }
        self.answers.insert(id, addresses);
        let mut gone = Vec::new();
        while self.bytes > self.most_bytes
            && let Some(oldest) = self.answers.keys().next().copied().filter(|oldest| *oldest != id)
        {
            self.end(oldest);
            self.given_up += 1;
            gone.push(oldest);
        }
        (id, gone)
    }

    /// The answer is sent, or its connection is over.
    pub fn end(&mut self, id: AnswerId) {
        for address in self.answers.remove(&id).unwrap_or_default() {
            if let Some(piece) = self.pieces.get_mut(&address) {
                piece.answers -= 1;
                if piece.answers == 0 {
                    self.bytes -= piece.bytes;
                    self.pieces.remove(&address);
                }
            }
        }
    }

    /// Bytes of all answers, each counted once.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Answers that were given up for others since the start.
    pub fn given_up(&self) -> u64 {
        self.given_up
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn body(pieces: &[&Bytes]) -> Body {
        let pieces: Vec<Bytes> = pieces.iter().map(|piece| (*piece).clone()).collect();
        Body { length: pieces.iter().map(Bytes::len).sum(), pieces: pieces.into() }
    }

    fn piece(length: usize) -> Bytes {
        vec![0; length].into()
    }

    #[test]
    fn many_clients_that_are_sent_the_same_cost_no_more_than_one() {
        let (mut outgoing, list) = (Outgoing::new(100), body(&[&piece(60), &piece(30)]));
        let all: Vec<AnswerId> = (0..1000)
            .map(|_| {
                let (id, gone) = outgoing.begin(&list);
                assert_eq!((outgoing.bytes(), gone), (90, vec![]));
                id
            })
            .collect();
        all.into_iter().for_each(|id| outgoing.end(id));
        assert_eq!((outgoing.bytes(), outgoing.given_up()), (0, 0));
    }

    #[test]
    fn what_a_new_list_shares_with_an_old_one_counts_once_and_the_oldest_makes_room() {
        let mut outgoing = Outgoing::new(100);
        let [same, old, new, newest] = [50, 30, 20, 40].map(piece);
        let (first, _) = outgoing.begin(&body(&[&same, &old]));
        let (second, gone) = outgoing.begin(&body(&[&same, &new]));
        assert_eq!((outgoing.bytes(), gone), (100, vec![]));
        let (third, gone) = outgoing.begin(&body(&[&same, &newest]));
        assert_eq!((outgoing.bytes(), gone), (90, vec![first, second]));
        // Whoever was given up ends later, which changes nothing.
        outgoing.end(first);
        assert_eq!((outgoing.bytes(), outgoing.given_up()), (90, 2));
        outgoing.end(third);
        assert_eq!(outgoing.bytes(), 0);
    }

    #[test]
    fn an_answer_that_is_too_large_for_all_is_sent_nevertheless() {
        let mut outgoing = Outgoing::new(100);
        let (small, _) = outgoing.begin(&body(&[&piece(10)]));
        let (_, gone) = outgoing.begin(&body(&[&piece(1000)]));
        assert_eq!((outgoing.bytes(), gone), (1000, vec![small]));
    }

    proptest! {
        #[test]
        fn the_bytes_are_those_of_the_pieces_that_are_under_way(steps in prop::collection::vec((0usize..6, 0usize..6, any::<bool>()), 1..200)) {
            let pieces: Vec<Bytes> = [5, 10, 20, 25, 30, 35].map(piece).into();
            let mut outgoing = Outgoing::new(90);
            let mut held: BTreeMap<AnswerId, [usize; 2]> = BTreeMap::new();
            for (first, second, ends) in steps {
                if ends {
                    if let Some((id, _)) = held.pop_first() {
                        outgoing.end(id);
                    }
                } else {
                    let (id, gone) = outgoing.begin(&body(&[&pieces[first], &pieces[second]]));
                    gone.iter().for_each(|id| {
                        held.remove(id);
                    });
                    held.insert(id, [first, second]);
                }
                let mut there: Vec<usize> = held.values().flatten().copied().collect();
                there.sort_unstable();
                there.dedup();
                prop_assert_eq!(outgoing.bytes(), there.iter().map(|place| pieces[*place].len()).sum::<usize>());
                prop_assert!(outgoing.bytes() <= 90 || held.len() == 1);
            }
        }
    }
}
