//! What the keys and the columns are.

use ratatui::Frame;
use ratatui::widgets::{Paragraph, Wrap};

const TEXT: &str = "\
q, Ctrl-C   quit                        ↑ ↓ j k   choose a process
s           sort by the next column     Enter     show that process
r           the other way round         /         filter by name
? h         this page                   Esc       show all again

RESIDENT  the process's memory, as the kernel counts it
RECLAIM   what of that could go when memory is short: volatile and offered
PINNED    in use
VOLATILE  not in use; the kernel cannot take it yet
OFFERED   not in use; the kernel takes it when it needs memory
LOST      found to be taken by the kernel; /s: in a second
FREED     given back by the process itself; /s: in a second
HEADROOM  what the machine or the cgroup could still hand out, where it is
          nearest to the reserve

Any key goes back.";

pub(super) fn draw(frame: &mut Frame<'_>) {
    frame.render_widget(Paragraph::new(TEXT).wrap(Wrap { trim: false }), frame.area());
}
