// tests/comm/cuda_stand_in/cuda_bf16.h: nothing of it is needed.
#pragma once
