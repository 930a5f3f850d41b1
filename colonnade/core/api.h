// colonnade/core/api.h
#pragma once

/// Marks what the shared library exports; everything else is hidden.
#define COLONNADE_API __attribute__((visibility("default")))
