// cli/interrupt.h
#pragma once

namespace colonnade::cli {

/// From now on the first Ctrl-C (or SIGTERM) only sets a note; a second one
/// ends the program at once.
void catch_interrupts();

/// The signal that came, or 0.
int interrupt();

}  // namespace colonnade::cli
