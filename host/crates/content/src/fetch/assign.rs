//! Who is asked for what next.
//!
//! All of it is decided anew from the state of the fetch whenever a provider has room for a request. The order of the
//! questions: is the size known; is something missing that the provider has; may it have grown; who could use its help.

use std::time::{Duration, Instant};

use macula_wire::NodeId;

use super::{Fetch, NamedBy, Open, REQUESTS_EACH, provider::Provider};
use crate::{
    groups::{GroupSet, PAIRS_MAX},
    tree::GROUP_BYTES,
};

/// How long one provider may think about the size before another is asked too.
const PROOF_PATIENCE: Duration = Duration::from_millis(500);
/// How often it is considered who could help whom, while somebody has nothing to do.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Less is not worth being taken over: the way there and back costs as much.
const STEAL_BYTES_MIN: u64 = 256 * 1024;
/// What is expected to take longer is split further before it is asked for twice.
const ENDGAME: Duration = Duration::from_secs(1);
/// Bytes a second of a provider of which nothing is known, when nothing is known of any. About a good line of a home.
const RATE_UNKNOWN: f64 = 1e6;
/// From request to first byte, as long as nothing is known.
const LATENCY_UNKNOWN: Duration = Duration::from_millis(100);

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    /// The last group, which proves the size.
    Proof,
    /// Some groups.
    Piece,
    /// All of it, unverified before its end.
    Whole,
}

pub(super) struct Assignment {
    pub(super) provider: NodeId,
    pub(super) work: Work,
    /// Which groups are expected; for [`Work::Piece`] only.
    pub(super) groups: GroupSet,
}

impl Fetch {
    pub(super) fn assign(&mut self, now: Instant) -> Option<Assignment> {
        if self.named_by == NamedBy::Whole {
            return if self.open.is_empty() { self.begin(now, Work::Whole) } else { None };
        }
        if self.geometry.is_none() {
            let is_patient = self.open.iter().any(|open| now < open.since + PROOF_PATIENCE);
            return if is_patient { None } else { self.begin(now, Work::Proof) };
        }
        // Whoever is fastest chooses first.
        let mut free: Vec<_> = self.providers.iter().filter(|provider| self.has_room(provider, now)).collect();
        free.sort_by(|a, b| self.rate(b, now).total_cmp(&self.rate(a, now)));
        let piece = free.iter().find_map(|provider| Some((provider.id, self.piece_for(provider, now)?)));
        if let Some((provider, groups)) = piece {
            return Some(Assignment { provider, work: Work::Piece, groups });
        }
        free.retain(|provider| !provider.was_robbed);
        if let Some((thief, victim, count)) = free.iter().find_map(|thief| self.theft(thief, now)) {
            let groups = self.steal(&thief, &victim, count)?;
            return Some(Assignment { provider: thief, work: Work::Piece, groups });
        }
        let (provider, groups) = free.iter().find_map(|thief| Some((thief.id, self.duplicate(thief, now)?)))?;
        Some(Assignment { provider, work: Work::Piece, groups })
    }

    /// When something may be decided otherwise than when it was last looked at, though nothing has come.
    pub(super) fn next_look(&self) -> Option<Instant> {
        let looked = self.idle_at?;
        let proofs = self.open.iter().filter(|open| open.work == Work::Proof);
        let patience = proofs.map(|open| open.since + PROOF_PATIENCE);
        let idle = || self.providers.iter().filter(|provider| self.open_of(&provider.id).count() < REQUESTS_EACH);
        let rests = idle().map(|provider| provider.rest_until);
        let growth = idle().filter_map(|provider| provider.ask_again_at(self.config.ask_again_after));
        let help = (self.geometry.is_some() && !self.open.is_empty() && idle().next().is_some())
            .then_some(looked + LOOK_EVERY);
        patience.chain(rests).chain(growth).chain(help).filter(|at| *at > looked).min()
    }

    /// Work that one provider does, of those that are not at it the one that was not asked for longest.
    fn begin(&self, now: Instant, work: Work) -> Option<Assignment> {
        let candidates = self.providers.iter().filter(|provider| {
            let may_have = !provider.lacks_last
                || provider.ask_again_at(self.config.ask_again_after).is_none_or(|again| again <= now);
            self.open_of(&provider.id).next().is_none() && provider.rest_until <= now && may_have
        });
        let provider = candidates.min_by_key(|provider| (provider.strikes, provider.last_request))?.id;
        Some(Assignment { provider, work, groups: GroupSet::new() })
    }

    fn has_room(&self, provider: &Provider, now: Instant) -> bool {
        provider.rest_until <= now && self.open_of(&provider.id).count() < REQUESTS_EACH
    }

    /// Missing groups that the provider has, or may have by now.
    fn piece_for(&self, provider: &Provider, now: Instant) -> Option<GroupSet> {
        if self.missing.is_empty() {
            return None;
        }
        let mut there = provider.has_of(&self.missing);
        if there.is_empty() {
            let may_have_grown = provider.ask_again_at(self.config.ask_again_after).is_some_and(|again| again <= now);
            if !may_have_grown {
                return None;
            }
            there = self.missing.clone();
        }
        let groups = self.piece_bytes(provider, now).div_ceil(GROUP_BYTES);
        Some(there.first_groups(groups).first_ranges(PAIRS_MAX))
    }

    fn piece_bytes(&self, provider: &Provider, now: Instant) -> u64 {
        let config = &self.config;
        let Some(rate) = provider.rate.at(now) else { return config.piece_bytes_min };
        let all: f64 = self.providers.iter().map(|provider| self.rate(provider, now)).sum();
        // Towards the end pieces become smaller, so that little is left to be stolen.
        let share = (self.missing.count() * GROUP_BYTES) as f64 * rate / all / 2.0;
        let bytes = (rate * config.piece_time.as_secs_f64()).min(share) as u64;
        bytes.min(config.piece_bytes_max).max(config.piece_bytes_min)
    }

    /// Who would give how many groups to this provider: the slowest, and so many that both end at the same time.
    fn theft(&self, thief: &Provider, now: Instant) -> Option<(NodeId, NodeId, u64)> {
        let (victim, needs) = self.slowest(thief, now)?;
        let left = |provider: &Provider| self.open_of(&provider.id).map(Open::left_bytes).sum::<u64>() as f64;
        let (fast, slow) = (self.rate(thief, now), left(victim) / needs.max(0.001));
        // What the thief could send until its request is there, it can not.
        let own = left(thief).max(self.latency(thief).as_secs_f64() * fast);
        let bytes = (left(victim) * fast - own * slow) / (fast + slow);
        (bytes >= STEAL_BYTES_MIN as f64).then_some((thief.id, victim.id, bytes as u64 / GROUP_BYTES))
    }

    /// Takes the last groups of the victim's requests that the thief has.
    fn steal(&mut self, thief: &NodeId, victim: &NodeId, count: u64) -> Option<GroupSet> {
        // What it was asked for as a second is expected of it already: taken over as well, it would count for two, and
        // leave room for a third.
        let own: GroupSet = self.open_of(thief).flat_map(|open| open.left.ranges()).collect();
        let thief = self.providers.iter().find(|provider| provider.id == *thief)?;
        let mut stolen = GroupSet::new();
        for open in self.open.iter_mut().rev().filter(|open| open.provider == *victim) {
            let there = thief.has_of(&open.left).difference(&own);
            let spared = there.count().saturating_sub(count - stolen.count());
            let (_, taken) = there.split_at(spared);
            let union = stolen.union(&taken);
            if union.pairs().len() > 2 * PAIRS_MAX {
                break;
            }
            open.left.remove(&taken);
            stolen = union;
            if stolen.count() >= count {
                break;
            }
        }
        if stolen.is_empty() {
            return None;
        }
        self.close_served();
        self.provider_mut(victim)?.was_robbed = true;
        Some(stolen)
    }

    /// What an idle provider would send sooner than the one that was asked. Each group is asked for twice at most.
    fn duplicate(&self, thief: &Provider, now: Instant) -> Option<GroupSet> {
        if !self.missing.is_empty() || self.open_of(&thief.id).next().is_some() {
            return None;
        }
        let (victim, late) = self.slowest(thief, now)?;
        let left: GroupSet = self.open_of(&victim.id).flat_map(|open| open.left.ranges()).collect();
        let elsewhere = self.open.iter().filter(|open| open.provider != victim.id);
        let twice: GroupSet = elsewhere.flat_map(|open| open.left.ranges()).collect();
        let groups = thief.has_of(&left.difference(&twice)).first_ranges(PAIRS_MAX);
        let bytes = (groups.count() * GROUP_BYTES) as f64;
        let needs = self.latency(thief).as_secs_f64() + bytes / self.rate(thief, now);
        let is_worth_it = needs < ENDGAME.as_secs_f64() && needs < late && bytes < 2.0 * STEAL_BYTES_MIN as f64;
        (is_worth_it && !groups.is_empty()).then_some(groups)
    }

    /// Of the others that have something left to send which the thief has, the one that will need longest; and how many
    /// seconds.
    fn slowest(&self, thief: &Provider, now: Instant) -> Option<(&Provider, f64)> {
        let helpless = |provider: &&Provider| {
            provider.id != thief.id && self.open_of(&provider.id).any(|open| !thief.has_of(&open.left).is_empty())
        };
        let all = self.providers.iter().filter(helpless).map(|provider| (provider, self.needs(provider, now)));
        all.max_by(|(_, a), (_, b)| a.total_cmp(b))
    }

    /// Seconds until a provider has sent all that it was asked for. One that is silent is expected to stay so for as long as
    /// it already has been.
    fn needs(&self, provider: &Provider, now: Instant) -> f64 {
        let left: u64 = self.open_of(&provider.id).map(Open::left_bytes).sum();
        let asked = self.open_of(&provider.id).map(|open| open.since).min().unwrap_or(now);
        let silence = now.saturating_duration_since(provider.last_byte.max(asked));
        let silence = silence.saturating_sub(self.latency(provider)).as_secs_f64();
        (left as f64 / self.rate(provider, now)).max(silence)
    }

    /// Of one of which nothing is known, the others' mean is assumed.
    fn rate(&self, provider: &Provider, now: Instant) -> f64 {
        provider.rate.at(now).unwrap_or_else(|| {
            let known: Vec<_> = self.providers.iter().filter_map(|provider| provider.rate.at(now)).collect();
            if known.is_empty() { RATE_UNKNOWN } else { known.iter().sum::<f64>() / known.len() as f64 }
        })
    }

    fn latency(&self, provider: &Provider) -> Duration {
        provider.latency.unwrap_or(LATENCY_UNKNOWN)
    }
}
