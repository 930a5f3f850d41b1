// tests/comm/cuda_stand_in/cuda_fp8.h: nothing of it is needed.
#pragma once
