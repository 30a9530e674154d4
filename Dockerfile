# docker build -t angular-penalty . && docker run --rm -v "$PWD:/work" angular-penalty train loss=arcface
FROM python:3.11-slim
COPY . /source
RUN pip install --no-cache-dir -c /source/constraints.txt '/source[sweeper]' && rm -rf /source
WORKDIR /work
ENTRYPOINT ["angular-penalty"]
