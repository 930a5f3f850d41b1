// colonnade/comm/detail/gloo_headers/gloo/common/error.h
#pragma once
