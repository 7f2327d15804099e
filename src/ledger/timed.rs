//! A ledger whose requests are timed, for metrics.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::time::Instant;

use super::lease::Leases;
use super::picture_cache::PictureCache;
use super::portal::PortalRecords;
use super::{Created, Ledger, LedgerError, Record};
use crate::edge::health::Edge;
use crate::job::JobId;
use crate::job::occurrence::Sequencer;
use crate::progress::times::{StepTimes, TimedStep};

/// A ledger that does what another does, and observes how long its records of deliveries take.
#[derive(Debug)]
pub struct TimedLedger {
    inner: Arc<dyn Ledger>,
    times: StepTimes,
}

impl TimedLedger {
    /// The same ledger, with its requests observed.
    pub fn new(inner: Arc<dyn Ledger>, times: StepTimes) -> Self {
        Self { inner, times }
    }

    async fn timed<T>(&self, step: TimedStep, request: impl Future<Output = T> + Send) -> T {
        let began = Instant::now();
        let answer = request.await;
        self.times.observe(step, began.elapsed());
        answer
    }
}

// A method with a default must be here too, or the default answers in place of the ledger: a test compares.
#[async_trait]
impl Ledger for TimedLedger {
    fn edge(&self) -> Option<&Edge> {
        self.inner.edge()
    }

    fn write_edge(&self) -> Option<&Edge> {
        self.inner.write_edge()
    }

    fn edges(&self) -> Vec<&Edge> {
        self.inner.edges()
    }

    async fn try_a_write(&self) {
        self.inner.try_a_write().await;
    }

    fn is_private(&self) -> bool {
        self.inner.is_private()
    }

    async fn create(&self, record: Record) -> Result<Created, LedgerError> {
        let request = self.inner.create(record);
        self.timed(TimedStep::LedgerCreate, request).await
    }

    async fn records(&self, job: &JobId) -> Result<Vec<Record>, LedgerError> {
        let request = self.inner.records(job);
        self.timed(TimedStep::LedgerRead, request).await
    }

    async fn records_of(&self, job: &JobId, rid: &str) -> Result<Vec<Record>, LedgerError> {
        let request = self.inner.records_of(job, rid);
        self.timed(TimedStep::LedgerRead, request).await
    }

    async fn reports_of_parts(&self, job: &JobId) -> Result<Vec<Record>, LedgerError> {
        let request = self.inner.reports_of_parts(job);
        self.timed(TimedStep::LedgerRead, request).await
    }

    async fn served_after(
        &self,
        series: &JobId,
        sequencer: &Sequencer,
    ) -> Result<Vec<Record>, LedgerError> {
        let request = self.inner.served_after(series, sequencer);
        self.timed(TimedStep::LedgerRead, request).await
    }

    async fn is_done(&self, job: &JobId) -> Result<bool, LedgerError> {
        let request = self.inner.is_done(job);
        self.timed(TimedStep::LedgerRead, request).await
    }

    async fn jobs(&self, limit: usize) -> Result<Vec<JobId>, LedgerError> {
        self.inner.jobs(limit).await
    }

    async fn keep_page(
        &self,
        job: &JobId,
        listing: &str,
        number: u32,
        page: Vec<u8>,
    ) -> Result<(), LedgerError> {
        let request = self.inner.keep_page(job, listing, number, page);
        self.timed(TimedStep::LedgerCreate, request).await
    }

    async fn page(
        &self,
        job: &JobId,
        listing: &str,
        number: u32,
    ) -> Result<Option<Vec<u8>>, LedgerError> {
        let request = self.inner.page(job, listing, number);
        self.timed(TimedStep::LedgerRead, request).await
    }

    async fn forget_pages(&self, job: &JobId) -> Result<(), LedgerError> {
        self.inner.forget_pages(job).await
    }

    fn leases(&self) -> Option<&dyn Leases> {
        self.inner.leases()
    }

    fn portal_records(&self) -> Arc<dyn PortalRecords> {
        self.inner.portal_records()
    }

    fn expiring_records(&self) -> Arc<dyn PortalRecords> {
        self.inner.expiring_records()
    }

    fn picture_cache(&self) -> Option<&dyn PictureCache> {
        self.inner.picture_cache()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    /// The names of the methods in a text of Rust.
    fn methods(text: &str) -> BTreeSet<&str> {
        let after = text.split("fn ").skip(1);
        after
            .filter_map(|rest| rest.split_once(['(', '<']))
            .map(|(name, _)| name)
            .collect()
    }

    #[test]
    fn every_method_of_a_ledger_is_passed_on() {
        let (_, text) = include_str!("../ledger.rs")
            .split_once("pub trait Ledger")
            .unwrap();
        let (of_trait, _) = text.split_once("\n}").unwrap();
        let (_, text) = include_str!("timed.rs")
            .split_once("impl Ledger for TimedLedger")
            .unwrap();
        let (ours, _) = text.split_once("\n}").unwrap();
        assert!(methods(of_trait).contains("is_private"));
        assert_eq!(methods(of_trait), methods(ours));
    }
}
