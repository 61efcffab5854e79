//! User and system time, as the kernel shares out what it measured exactly (`cputime_adjust` in `kernel/sched/cputime.c`).
//!
//! The time on CPUs is exact, user and system time are samples; what is shown are parts of the former in the ratio of the
//! latter, and neither ever falls. The kernel remembers what it has shown, and so do we: two who look at different times may
//! differ by a sample or so.

/// What is known of a cgroup's time, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// On CPUs.
    pub(super) runtime: u64,
    /// In user mode, by samples.
    pub(super) user: u64,
    /// In the kernel, by samples.
    pub(super) system: u64,
}

/// User and system time, after `shown` was.
pub(super) fn share(times: Times, shown: [u64; 2]) -> [u64; 2] {
    let [shown_user, shown_system] = shown;
    if shown_user.saturating_add(shown_system) >= times.runtime {
        return shown;
    }
    let system = match (times.user, times.system) {
        (_, 0) => 0,
        (0, _) => times.runtime,
        (user, system) => {
            let part = u128::from(system) * u128::from(times.runtime) / (u128::from(user) + u128::from(system));
            u64::try_from(part).unwrap_or(times.runtime)
        }
    };
    let system = system.max(shown_system).min(times.runtime);
    let user = times.runtime - system;
    if user < shown_user { [shown_user, times.runtime - shown_user] } else { [user, system] }
}

#[cfg(test)]
mod tests {
    use super::{Times, share};

    fn times(runtime: u64, user: u64, system: u64) -> Times {
        Times { runtime, user, system }
    }

    #[test]
    fn the_time_on_cpus_is_shared_out_by_the_samples() {
        assert_eq!(share(times(1_000, 30, 10), [0, 0]), [750, 250]);
        assert_eq!(share(times(1_000, 0, 10), [0, 0]), [0, 1_000]);
        assert_eq!(share(times(1_000, 10, 0), [0, 0]), [1_000, 0]);
        assert_eq!(share(times(1_000, 0, 0), [0, 0]), [1_000, 0]);
        let years = 1 << 62;
        assert_eq!(share(times(years, years, years), [0, 0]), [years / 2, years / 2]);
    }

    #[test]
    fn what_was_shown_never_falls_and_the_sum_is_exact() {
        let mut shown = [0, 0];
        for (runtime, user, system) in [(100, 1, 9), (200, 30, 10), (200, 30, 12), (250, 90, 12), (1_000, 100, 900)] {
            let now = share(times(runtime, user, system), shown);
            assert!(now[0] >= shown[0] && now[1] >= shown[1], "{shown:?} {now:?}");
            assert_eq!(now[0] + now[1], runtime);
            shown = now;
        }
        // A clock that went back shows what it showed.
        assert_eq!(share(times(900, 100, 900), shown), shown);
    }
}
