//! Which fault is next: each kind once in a random order, and then all of them again.

use crate::differential::stream::Dice;

/// A kind of fault: what it is, and what makes it and returns when it has ended.
pub type Kind<A> = (&'static str, fn(&A, &mut Dice));

/// The kinds that are still to come before any comes again, and how often each was made.
pub struct Deck<A: 'static> {
    kinds: Vec<Kind<A>>,
    left: Vec<usize>,
    made: Vec<usize>,
}

impl<A> Deck<A> {
    pub fn of(kinds: Vec<Kind<A>>) -> Self {
        Self { left: Vec::new(), made: vec![0; kinds.len()], kinds }
    }

    /// Makes the next fault, and returns what it was.
    pub fn next(&mut self, attack: &A, dice: &mut Dice) -> &'static str {
        if self.left.is_empty() {
            self.left = (0..self.kinds.len()).collect();
        }
        let kind = self.left.swap_remove(dice.roll(self.left.len() as u64) as usize);
        self.made[kind] += 1;
        let (name, make) = self.kinds[kind];
        make(attack, dice);
        name
    }

    /// Prints how often each kind was made; true when none is missing.
    pub fn is_complete(&self) -> bool {
        self.kinds.iter().zip(&self.made).for_each(|((name, _), made)| eprintln!("{made:5} times {name}"));
        self.made.iter().all(|made| *made > 0)
    }
}
