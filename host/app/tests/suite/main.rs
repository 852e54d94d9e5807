//! What takes minutes or months in production: retries, patience and retention, by a clock that the tests move. The
//! actors are drained in this process, over both databases and the plugins that ship.

mod clock;
mod connections;
mod deliveries;
mod endpoints;
mod fair_share;
mod fan_out;
mod host;
mod keys;
mod receipts;
mod recovery;
mod redrive;
mod retention;
mod starvation;
mod stores;
