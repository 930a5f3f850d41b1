// cli/loss_curve.h
#pragma once

#include "cli/loss_history.h"

#include <string>

namespace colonnade::cli {

/// The curve for a terminal: a line of braille dots for training, a diamond for
/// each evaluation, axes with numbers. Empty without at least two steps.
///
/// columns  of the whole picture, at least 30
/// rows     of the drawing, the axis not counted
std::string draw_for_terminal(const LossHistory& history, int columns,
                              int rows);

/// The same as an SVG picture, readable on light and dark pages.
std::string draw_as_svg(const LossHistory& history);

}  // namespace colonnade::cli
