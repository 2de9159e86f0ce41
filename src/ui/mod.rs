//! The operator page under `/ui/`: read only, rendered by the server, and the only area that names askama. It works
//! without JavaScript; with it, a visible page is refreshed.

mod certificate;
mod format;
mod health;
mod lookup;
mod overview;
mod page;
mod plot;
mod refresh;
mod registration;
mod router;
mod rows;
mod search;
mod settings;
mod sign_in;
mod waterfall;

pub(crate) use page::with_headers;
pub(crate) use router::{StreamEnd, Ui, assets, pages};
pub use settings::Settings;
pub(crate) use settings::TraceUrl;
pub(crate) use sign_in::{SignIn, refused};
