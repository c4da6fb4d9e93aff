//! Self-preservation: when many fall silent at once, silence is taken for a fault of the network and no lease ends.
//!
//! The arithmetic is the original's, to the rounding. Renewals are counted in buckets of a minute from the opening on, and the last finished bucket
//! counts. The number of clients grows with each new lease and shrinks with each cancelled or evicted one, but never once it is 0.

use crate::settings::Settings;

const BUCKET_MS: u64 = 60_000;

/// Counts renewals and says whether leases may end.
#[derive(Debug, Clone)]
pub(crate) struct Counter {
    enabled: bool,
    percent: f64,
    expected_renewal_s: u32,
    clients: u64,
    bucket_start_ms: u64,
    bucket: u64,
    last_bucket: u64,
}

/// What self-preservation is doing, for the page and for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preservation {
    pub enabled: bool,
    /// Clients that are expected to renew.
    pub clients: u64,
    /// Renewals of the last whole minute must be more than this for leases to end.
    pub threshold: u64,
    /// Renewals of the last whole minute.
    pub renewals: u64,
    /// Whether leases may end.
    pub evicts: bool,
    /// When the minute that is being counted ends, from now, in milliseconds.
    pub bucket_ends_in_ms: u64,
}

impl Counter {
    pub fn new(settings: &Settings, now_ms: u64) -> Counter {
        Counter {
            enabled: settings.self_preservation,
            percent: settings.renewal_percent,
            expected_renewal_s: settings.expected_renewal_s.max(1),
            clients: settings.clients_at_start,
            bucket_start_ms: now_ms,
            bucket: 0,
            last_bucket: 0,
        }
    }

    /// The registry opens for traffic with so many clients.
    pub fn open(&mut self, clients: u64, now_ms: u64) {
        self.clients = clients;
        (self.bucket_start_ms, self.bucket, self.last_bucket) = (now_ms, 0, 0);
    }

    pub fn renewed(&mut self, now_ms: u64) {
        self.advance(now_ms);
        self.bucket += 1;
    }

    pub fn joined(&mut self) {
        if self.clients > 0 {
            self.clients += 1;
        }
    }

    pub fn left(&mut self) {
        self.clients = self.clients.saturating_sub(1);
    }

    /// ⌊clients · (60 / interval) · percent⌋
    pub fn threshold(&self) -> u64 {
        (self.clients as f64 * (60.0 / f64::from(self.expected_renewal_s)) * self.percent) as u64
    }

    pub fn look(&mut self, now_ms: u64) -> Preservation {
        self.advance(now_ms);
        let threshold = self.threshold();
        Preservation {
            enabled: self.enabled,
            clients: self.clients,
            threshold,
            renewals: self.last_bucket,
            evicts: !self.enabled || (threshold > 0 && self.last_bucket > threshold),
            bucket_ends_in_ms: (self.bucket_start_ms + BUCKET_MS).saturating_sub(now_ms),
        }
    }

    fn advance(&mut self, now_ms: u64) {
        let buckets = now_ms.saturating_sub(self.bucket_start_ms) / BUCKET_MS;
        match buckets {
            0 => return,
            1 => self.last_bucket = self.bucket,
            _ => self.last_bucket = 0,
        }
        self.bucket = 0;
        self.bucket_start_ms += buckets * BUCKET_MS;
    }
}
