//! `sidegate policy schema`.

use std::io;

use clap::Args;

use super::{Output, SUCCESS};
use crate::policy::schema::schema;

/// Print the JSON Schema of policies, for editors
#[derive(Debug, Args)]
pub struct Schema {}

impl Schema {
    pub(super) fn run(self, output: &mut Output<'_>) -> io::Result<u8> {
        writeln!(output.out, "{:#}", schema())?;
        Ok(SUCCESS)
    }
}
