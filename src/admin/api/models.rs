//! The running policy as its author wrote it. The proxy decides by a smaller form, so the text is compiled again when it is
//! asked for, and kept until another snapshot is in force.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::live::Live;
use crate::policy;
use crate::policy::matrix::Matrix;

/// The policy that was last asked for.
#[derive(Debug, Default)]
pub(super) struct Models(Mutex<Option<(u64, Arc<Matrix>)>>);

impl Models {
    /// The policy of this snapshot; `None` if it cannot be compiled, which it could when it came into force.
    pub(super) fn of(&self, live: &Live) -> Option<Arc<Matrix>> {
        let mut kept = self.0.lock();
        if let Some((generation, matrix)) = &*kept
            && *generation == live.generation
        {
            return Some(Arc::clone(matrix));
        }
        let (model, _) = policy::model(&live.sources).ok()?;
        let matrix = Arc::new(Matrix::of(model));
        *kept = Some((live.generation, Arc::clone(&matrix)));
        Some(matrix)
    }
}
