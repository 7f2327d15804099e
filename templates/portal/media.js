document.querySelectorAll("video,audio").forEach(function(media){
  var tries=0;
  media.addEventListener("playing",function(){tries=0});
  media.addEventListener("error",function(){
    if(tries++>2)return;
    var at=media.currentTime,paused=media.paused;
    media.addEventListener("loadedmetadata",function(){
      media.currentTime=at;
      if(!paused)media.play().catch(function(){});
    },{once:true});
    if(media.dataset.again)media.src=media.dataset.again;
    media.load();
  });
});
