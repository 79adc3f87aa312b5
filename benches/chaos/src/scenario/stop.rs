//! To be filled.

use async_trait::async_trait;

use super::{Run, Scenario};
use crate::{Failure, report::Outcome};

/// See the module.
#[derive(Debug)]
pub(super) struct Stop;

#[async_trait]
impl Scenario for Stop {
    fn name(&self) -> &'static str {
        "stop"
    }

    fn about(&self) -> &'static str {
        "to be filled"
    }

    async fn run(&self, _run: &Run) -> Result<Outcome, Failure> {
        Ok(Outcome::default())
    }
}
