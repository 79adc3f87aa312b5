//! To be filled.

use async_trait::async_trait;

use super::{Run, Scenario};
use crate::{Failure, report::Outcome};

/// See the module.
#[derive(Debug)]
pub(super) struct Workers;

#[async_trait]
impl Scenario for Workers {
    fn name(&self) -> &'static str {
        "workers"
    }

    fn about(&self) -> &'static str {
        "to be filled"
    }

    async fn run(&self, _run: &Run) -> Result<Outcome, Failure> {
        Ok(Outcome::default())
    }
}
