// colonnade/comm/detail/gloo_headers/gloo/algorithm.h
#pragma once
