"""The background-error covariance B = U Uᵀ of 3DVar."""
