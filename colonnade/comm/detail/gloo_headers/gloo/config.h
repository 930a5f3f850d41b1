// colonnade/comm/detail/gloo_headers/gloo/config.h
#pragma once
