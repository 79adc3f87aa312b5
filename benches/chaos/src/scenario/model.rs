//! Every order of steps, instead of those that happened to come up.

use async_trait::async_trait;
use social_testkit::model::{Bounds, Report, explore_all};

use super::{Run, Scenario, say};
use crate::{Failure, report::Outcome};

/// So many traces have to be behind the word "held".
const ENOUGH_TRACES: u64 = 1_000_000;

/// See the module.
#[derive(Debug)]
pub(super) struct Model;

#[async_trait]
impl Scenario for Model {
    fn name(&self) -> &'static str {
        "model"
    }

    fn about(&self) -> &'static str {
        "goes through every order in which two workers, a database, a network and a person can act, up to a number of faults; needs no process"
    }

    async fn run(&self, run: &Run) -> Result<Outcome, Failure> {
        let bounds: &'static [Bounds] = run.pick(&Bounds::THOROUGH, &Bounds::QUICK);
        let reports = tokio::task::spawn_blocking(move || explore_all(bounds)).await?;
        let mut outcome = Outcome::default();
        for Report { bounds, held, states, broken, .. } in &reports {
            say(format!("{bounds:?}: {states} states"));
            outcome.demand(*held, || format!("{bounds:?}: {broken:#?}"));
        }
        let sum = |of: fn(&Report) -> u64| reports.iter().map(of).fold(0, u64::saturating_add);
        let traces = sum(|report| report.traces);
        outcome.demand(traces >= ENOUGH_TRACES, || format!("only {traces} traces were looked at"));
        outcome.figure("states", sum(|report| report.states));
        outcome.figure("steps", sum(|report| report.steps));
        outcome.figure("traces", traces);
        Ok(outcome)
    }
}
