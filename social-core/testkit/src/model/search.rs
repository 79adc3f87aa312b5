//! Breadth first through all states, so that the first trace that breaks a promise is a shortest one.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

use super::{
    Bounds, Broken, Promise, Protections, Report,
    rules::Table,
    state::State,
    steps::{Next, Rules},
};

/// The length of the traces that are counted.
const TRACE_STEPS: u32 = 24;
/// Marks a step of the graph that uses up a budget: what ends a delivery must do without it.
const BUDGETED: u32 = 1 << 31;

/// Explores everything within the bounds.
///
/// Safety is checked in every state. That nothing is stuck is checked in the end: from every state there is a way to one in which nothing is left
/// to do, or a person is asked, without any further fault and without that person.
///
/// # Panics
/// If the bounds are larger than the model can count: see [`Bounds`].
#[must_use]
pub fn explore(bounds: Bounds, protections: Protections) -> Report {
    explore_for(bounds, protections, &Promise::ALL)
}

/// As [`explore`], but looks for traces that break one of these promises only.
///
/// # Panics
/// As [`explore`].
#[must_use]
pub fn explore_for(bounds: Bounds, protections: Protections, promises: &'static [Promise]) -> Report {
    assert!((1..=2).contains(&bounds.parts) && bounds.faults <= 3 && bounds.outside <= 3, "{bounds:?}");
    let rules = Rules { bounds, protections, promises, table: Table::new() };
    let mut graph = Graph::default();
    let mut broken = graph.grow(&rules);
    if broken.is_none() && promises.contains(&Promise::NeverStuck) {
        broken = graph.stuck().map(|state| (state, Promise::NeverStuck));
    }
    Report {
        bounds,
        protections,
        held: broken.is_none(),
        states: graph.states.len() as u64,
        steps: graph.targets.len() as u64,
        traces: if broken.is_none() { graph.traces() } else { 0 },
        trace_steps: TRACE_STEPS,
        broken: broken.map(|(state, promise)| Broken { promise, trace: graph.trace(&rules, state) }),
    }
}

#[derive(Default)]
struct Graph {
    known: HashMap<[u64; 3], u32, BuildHasherDefault<Mixer>>,
    states: Vec<State>,
    /// From which state each was reached first.
    parents: Vec<u32>,
    /// The steps of state `n` are `targets[starts[n]..starts[n + 1]]`.
    starts: Vec<u32>,
    targets: Vec<u32>,
}

impl Graph {
    fn add(&mut self, state: State, parent: u32) -> (u32, bool) {
        let new = self.states.len() as u32;
        let id = *self.known.entry(state.key()).or_insert(new);
        if id == new {
            self.states.push(state);
            self.parents.push(parent);
        }
        (id, id == new)
    }

    fn grow(&mut self, rules: &Rules) -> Option<(u32, Promise)> {
        let first = State::first(rules.bounds).tidied(rules.protections);
        self.add(first, 0);
        let (mut at, mut next) = (0, Vec::<Next>::new());
        while at < self.states.len() {
            self.starts.push(self.targets.len() as u32);
            rules.steps(&self.states[at], &mut next);
            for (_, budgeted, state) in next.drain(..) {
                let (id, new) = self.add(state.tidied(rules.protections), at as u32);
                self.targets.push(if budgeted { id | BUDGETED } else { id });
                if new && let Some(promise) = rules.broken(&self.states[id as usize]) {
                    return Some((id, promise));
                }
            }
            at += 1;
        }
        self.starts.push(self.targets.len() as u32);
        None
    }

    fn steps(&self, state: usize) -> &[u32] {
        &self.targets[self.starts[state] as usize..self.starts[state + 1] as usize]
    }

    /// The first state from which no free step leads towards an end.
    fn stuck(&self) -> Option<u32> {
        let mut good: Vec<bool> = self.states.iter().map(Rules::ended).collect();
        // Most states come before those that they lead to, so that few rounds from the back are enough.
        loop {
            let mut changed = false;
            for state in (0..self.states.len()).rev() {
                if !good[state] && self.steps(state).iter().any(|to| to & BUDGETED == 0 && good[*to as usize]) {
                    good[state] = true;
                    changed = true;
                }
            }
            if !changed {
                return good.iter().position(|good| !good).map(|state| state as u32);
            }
        }
    }

    /// How many different traces of [`TRACE_STEPS`] steps there are.
    fn traces(&self) -> u64 {
        let mut ways = vec![0_u64; self.states.len()];
        ways[0] = 1;
        for _ in 0..TRACE_STEPS {
            let mut further = vec![0_u64; self.states.len()];
            for (state, ways) in ways.iter().enumerate().filter(|(_, ways)| **ways > 0) {
                for to in self.steps(state) {
                    let to = &mut further[(to & !BUDGETED) as usize];
                    *to = to.saturating_add(*ways);
                }
            }
            ways = further;
        }
        ways.into_iter().fold(0, u64::saturating_add)
    }

    /// How a state is reached. States keep their workers in an order of their own; here they keep their names.
    fn trace(&self, rules: &Rules, end: u32) -> Vec<String> {
        let mut way = vec![end];
        while let Some(&last) = way.last()
            && last != 0
        {
            way.push(self.parents[last as usize]);
        }
        let mut now = State::first(rules.bounds);
        let (mut told, mut next) = (Vec::new(), Vec::new());
        for id in way.into_iter().rev().skip(1) {
            let key = self.states[id as usize].key();
            rules.steps(&now, &mut next);
            let same = |state: &State| state.tidied(rules.protections).key() == key;
            let Some((action, _, state)) = next.drain(..).find(|(_, _, state)| same(state)) else { break };
            told.push(format!("{action} [{state}]"));
            now = state;
        }
        told
    }
}

/// Quick, and good enough for keys that are not chosen by anybody.
#[derive(Default)]
struct Mixer(u64);

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 29)
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(23) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}
