//! Applies keys to the state of the view.

use std::time::{Duration, Instant};

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::app::{App, CpuScale, Sort, View};

/// Intervals between polls that `+` and `-` step through, in seconds.
const INTERVALS: [u64; 5] = [1, 2, 5, 10, 30];

/// What the caller has to do after a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    None,
    Quit,
    Redraw,
    PollNow,
    Suspend,
}

impl App {
    /// Applies a key.
    pub(super) fn key(&mut self, key: KeyEvent, now: Instant) -> Action {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') => Action::Quit,
                KeyCode::Char('l') => Action::Redraw,
                KeyCode::Char('z') => Action::Suspend,
                _ => Action::None,
            };
        }
        if self.editing {
            return self.edit(key, now);
        }
        let step = match key.code {
            KeyCode::Down | KeyCode::Char('j') => Some(1),
            KeyCode::Up | KeyCode::Char('k') => Some(-1),
            KeyCode::PageDown => Some(10),
            KeyCode::PageUp => Some(-10),
            KeyCode::Home | KeyCode::Char('g') => Some(isize::MIN),
            KeyCode::End | KeyCode::Char('G') => Some(isize::MAX),
            _ => None,
        };
        if let Some(step) = step {
            self.move_selection(step);
            return Action::None;
        }
        match key.code {
            KeyCode::Char('q') | KeyCode::F(10) => return Action::Quit,
            KeyCode::Char('h' | '?') | KeyCode::F(1) => self.toggle(View::Help),
            KeyCode::Esc if self.view != View::Table => self.view = View::Table,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Left | KeyCode::Backspace => self.view = View::Table,
            KeyCode::Enter | KeyCode::Right => self.view = View::Detail,
            KeyCode::Char('/' | 'f') | KeyCode::F(3 | 4) => self.editing = true,
            KeyCode::Char('s' | '>') | KeyCode::F(6) => self.sort_by(self.sort.next(true)),
            KeyCode::Char('<') => self.sort_by(self.sort.next(false)),
            KeyCode::Char('r' | 'I') => self.reversed = !self.reversed,
            KeyCode::Char('C' | 'P') => self.sort_by(Sort::Cpu),
            KeyCode::Char('M') => self.sort_by(Sort::Memory),
            KeyCode::Char('D') => self.sort_by(Sort::Disk),
            KeyCode::Char('T') => self.sort_by(Sort::Network),
            KeyCode::Char('N') => self.sort_by(Sort::Name),
            KeyCode::Char('a') => self.all = !self.all,
            KeyCode::Char('t') | KeyCode::F(5) => self.grouped = !self.grouped,
            KeyCode::Char('b') => self.bits = !self.bits,
            KeyCode::Char('%') => {
                self.scale = match self.scale {
                    CpuScale::Core => CpuScale::Limit,
                    CpuScale::Limit => CpuScale::Host,
                    CpuScale::Host => CpuScale::Core,
                }
            }
            KeyCode::Char('+') => self.change_interval(true),
            KeyCode::Char('-') => self.change_interval(false),
            KeyCode::Char(' ' | 'p') => {
                self.paused = !self.paused;
                return if self.paused { Action::None } else { Action::PollNow };
            }
            _ => return Action::None,
        }
        self.arrange(now);
        Action::None
    }

    /// Applies a key to the filter.
    fn edit(&mut self, key: KeyEvent, now: Instant) -> Action {
        match key.code {
            KeyCode::Enter => self.editing = false,
            KeyCode::Esc => {
                self.editing = false;
                self.filter.clear();
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(letter) => self.filter.push(letter),
            _ => {}
        }
        self.arrange(now);
        Action::None
    }

    fn toggle(&mut self, view: View) {
        self.view = if self.view == view { View::Table } else { view };
    }

    fn sort_by(&mut self, sort: Sort) {
        self.sort = sort;
        self.reversed = false;
    }

    fn change_interval(&mut self, longer: bool) {
        let seconds = self.interval.as_secs();
        let mut candidates = INTERVALS.iter().copied();
        let next = if longer {
            candidates.find(|next| *next > seconds)
        } else {
            candidates.rev().find(|next| *next < seconds)
        };
        self.interval = next.map_or(self.interval, Duration::from_secs);
    }

    /// Moves the selection by a number of rows, at most to the first or last row.
    fn move_selection(&mut self, by: isize) {
        let keys: Vec<&String> = self.keys().collect();
        let index = keys.iter().position(|key| self.selected.as_ref() == Some(*key)).unwrap_or(0);
        let next = index.saturating_add_signed(by).min(keys.len().saturating_sub(1));
        self.selected = keys.get(next).map(|key| (*key).clone());
    }
}
